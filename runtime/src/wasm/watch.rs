//! Word of changes in a plugin folder. It says only that something has changed; what, is found out by looking.
//!
//! A thread waits for the system's word and passes it on. Where the system has no such word to give (another system than
//! Linux, a network's file system, no watches left), none comes, and the loader's own rounds find what has changed.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::Notify;

/// Word of changes; see the module. Dropping it ends its thread.
pub(super) struct Watch {
    changed: Arc<Notify>,
    inotify: Option<Arc<imp::Inotify>>,
}

/// Says which folders word is wanted of; for another thread, as it may wait for a disk.
pub(super) struct Follower(Option<Arc<imp::Inotify>>);

impl Watch {
    pub(super) fn new() -> Self {
        let changed = Arc::new(Notify::new());
        let inotify = match imp::Inotify::start(Arc::clone(&changed)) {
            Ok(inotify) => Some(Arc::new(inotify)),
            Err(error) => {
                tracing::warn!(%error, "changes of plugins are noticed late: the system does not tell of them");
                None
            }
        };
        Self { changed, inotify }
    }

    pub(super) fn follower(&self) -> Follower {
        Follower(self.inotify.clone())
    }

    /// Ends when something has changed since this last ended.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Follower {
    /// Also follows this folder and those in it. Following one again does nothing.
    pub(super) fn follow(&self, folder: &Path) {
        let Some(inotify) = &self.0 else { return };
        // The folder first: what is made in it from now on is told.
        let subs = inotify.follow(folder).and_then(|()| fs::read_dir(folder));
        let followed = subs.and_then(|mut subs| {
            subs.try_for_each(|sub| {
                let (path, kind) = sub.and_then(|sub| Ok((sub.path(), sub.file_type()?)))?;
                if kind.is_dir() || (kind.is_symlink() && path.is_dir()) { inotify.follow(&path) } else { Ok(()) }
            })
        });
        if let Err(error) = followed {
            tracing::debug!(%error, folder = %folder.display(), "some changes of this folder are noticed late");
        }
    }
}

#[cfg(target_os = "linux")]
mod imp {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::path::Path;
    use std::sync::Arc;
    use std::thread::JoinHandle;

    use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
    use rustix::io::Errno;
    use tokio::sync::Notify;

    /// Events that are read at once; what they say does not matter.
    const PIECE_BYTES: usize = 4 << 10;

    pub(super) struct Inotify {
        changes: Arc<OwnedFd>,
        stop: Arc<OwnedFd>,
        thread: Option<JoinHandle<()>>,
    }

    impl Inotify {
        pub(super) fn start(changed: Arc<Notify>) -> io::Result<Self> {
            let changes = Arc::new(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?);
            let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
            let (its_changes, its_stop) = (Arc::clone(&changes), Arc::clone(&stop));
            let thread = std::thread::Builder::new().name("plugin-watch".to_owned()).spawn(move || {
                if let Err(error) = pass_on(&its_changes, &its_stop, &changed) {
                    tracing::warn!(%error, "changes of plugins are noticed late from now on");
                }
            })?;
            Ok(Self { changes, stop, thread: Some(thread) })
        }

        pub(super) fn follow(&self, folder: &Path) -> io::Result<()> {
            // Not each write: a file is looked at when its writer has closed it.
            let changes = WatchFlags::CREATE
                | WatchFlags::CLOSE_WRITE
                | WatchFlags::MOVE
                | WatchFlags::DELETE
                | WatchFlags::ATTRIB
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF
                | WatchFlags::ONLYDIR;
            inotify::add_watch(&self.changes, folder, changes)?;
            Ok(())
        }
    }

    impl Drop for Inotify {
        fn drop(&mut self) {
            // An event's counter takes eight bytes, always.
            let told = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
            if let (Ok(_), Some(thread)) = (told, self.thread.take()) {
                // A panic of it was reported by the hook.
                _ = thread.join();
            }
        }
    }

    fn pass_on(changes: &OwnedFd, stop: &OwnedFd, changed: &Notify) -> io::Result<()> {
        loop {
            let mut fds = [PollFd::new(changes, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if !fds[1].revents().is_empty() {
                return Ok(());
            }
            let mut piece = [0; PIECE_BYTES];
            match rustix::io::read(changes, &mut piece) {
                Ok(_) => changed.notify_one(),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::io;
    use std::path::Path;
    use std::sync::Arc;

    use tokio::sync::Notify;

    /// There is none.
    pub(super) struct Inotify;

    impl Inotify {
        pub(super) fn start(_: Arc<Notify>) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn follow(&self, _: &Path) -> io::Result<()> {
            Ok(())
        }
    }
}
