//! Schedules on a node: what makes jobs of their slots, and what keeps those of manifests as the manifests have them.
//!
//! [`calendar`] and [`cron`] say which instants a schedule's words mean, [`due`] what is to become of one now, [`draft`] makes a plan of what
//! an author says; these are pure. [`timer`] sleeps until the next slot of all schedules and fires it, [`manifests`] follows
//! the plugins. The rules themselves – once for each slot, overlap, room – are the store's: whoever fires a slot twice, or
//! two who fire the same, make one job.

pub mod calendar;
pub mod cron;
pub mod draft;
pub mod due;
mod manifests;
mod timer;

use std::sync::Arc;

use runner_store::Handle;
use runner_store::clock::Clock;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::wasm::Catalog;

pub(crate) use self::timer::fire_of;

/// The schedules of a node, while it runs.
#[derive(Debug)]
pub struct Schedules {
    stop: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
}

impl Schedules {
    /// Fires slots from now on, and keeps the schedules of these plugins' manifests.
    #[must_use]
    pub fn start(store: &Handle, plugins: &Arc<Catalog>, clock: &Clock) -> Self {
        let (stop, stopped) = watch::channel(false);
        let timer = tokio::spawn(timer::run(store.clone(), Arc::clone(plugins), clock.clone(), stopped.clone()));
        let manifests = tokio::spawn(manifests::follow(store.clone(), Arc::clone(plugins), stopped));
        Self { stop, tasks: [timer, manifests] }
    }

    /// Fires nothing any more, and comes back when nothing more is said to the store.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            if task.await.is_err() {
                tracing::error!("a task of the schedules panicked");
            }
        }
    }
}
