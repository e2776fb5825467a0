//! A node that rests: it starts nothing more and gives back what has not started, but its process goes on, and so does it
//! when it is told to. A node that stops rests first, and is not told to go on.

use tokio::sync::oneshot;

use super::Shell;
use super::core::Event;
use crate::node::NodeState;

/// What is wanted of a node as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Only to know how it is.
    No,
    /// That it starts nothing more.
    Begin,
    /// That it goes on.
    End,
}

/// One such wish.
#[derive(Debug)]
pub(crate) struct Resting {
    pub(crate) wanted: Rest,
    pub(crate) answer: oneshot::Sender<Result<Figures, Stops>>,
}

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Where it is in its life.
    pub state: NodeState,
    /// Whether what was wanted has changed that.
    pub changed: bool,
    /// Calls of handlers at once, at most.
    pub slots: u32,
    /// Calls that go on.
    pub running: usize,
    /// Runs that are claimed and have not started.
    pub claimed: usize,
    /// Memory of all runs together.
    pub memory_bytes: u64,
    /// What runs that go on have reserved of it.
    pub reserved_bytes: u64,
}

/// A node that stops does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node stops and does not go on; start another one when it has stopped")]
pub struct Stops;

impl Shell {
    /// Does what is wanted, and answers how the node is then: whoever has the answer may rely on it.
    pub(super) fn rest(&mut self, Resting { wanted, answer }: Resting) {
        let done = match (wanted, self.stopping) {
            (Rest::End, true) => Err(Stops),
            (Rest::No, _) | (Rest::Begin, true) => Ok(false),
            (Rest::Begin, false) => Ok(self.begin_to_rest()),
            (Rest::End, false) => Ok(self.go_on()),
        };
        // Whoever went away needs no answer.
        _ = answer.send(done.map(|changed| self.figures(changed)));
    }

    fn begin_to_rest(&mut self) -> bool {
        let changed = self.say(NodeState::Draining);
        if changed {
            tracing::info!("draining: nothing more starts until the node is resumed");
            self.tell([Event::Drain]);
        }
        changed
    }

    fn go_on(&mut self) -> bool {
        let changed = self.say(NodeState::Running);
        if changed {
            tracing::info!("resumed");
            self.tell([Event::Resume]);
        }
        changed
    }

    /// Says where the node is in its life; whether that is new.
    pub(super) fn say(&self, state: NodeState) -> bool {
        self.parts.state.send_if_modified(|is| std::mem::replace(is, state) != state)
    }

    fn figures(&self, changed: bool) -> Figures {
        let (memory_bytes, reserved_bytes) = self.core.memory();
        Figures {
            state: *self.parts.state.borrow(),
            changed,
            slots: self.parts.slots,
            running: self.core.running(),
            claimed: self.core.ready(),
            memory_bytes,
            reserved_bytes,
        }
    }
}
