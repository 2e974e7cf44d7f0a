//! Shell: tells when an entry of a directory comes or goes (inotify), for the kubelet's sockets.
//!
//! Nodes run out of inotify instances (`fs.inotify.max_user_instances`, 128 for all of root's programs by default). A
//! device plugin that ended for that would take the node's devices with it, so then it looks each second instead.

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

/// Pause between two looks where the kernel has no queue for us: a new kubelet is to have its devices within a second.
const LOOK: Duration = Duration::from_secs(1);

pub struct Watched {
    directory: PathBuf,
    /// The queue of inotify. It is read like a pipe, and tokio's type for pipes is the one that takes such a descriptor.
    queue: Option<Receiver>,
}

impl Watched {
    pub fn new(directory: &Path) -> io::Result<Self> {
        let queue = match open(directory) {
            Ok(queue) => Some(queue),
            Err(error) if is_shortage(&error) => {
                tracing::warn!(
                    "no inotify instance is left to watch {}: {error}; looking each second instead. More: sysctl \
                     fs.inotify.max_user_instances",
                    directory.display()
                );
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Self { directory: directory.to_owned(), queue })
    }

    /// Returns when something may have come or gone since the last call. What it was does not matter: the caller looks
    /// itself.
    pub async fn changed(&mut self) -> io::Result<()> {
        if let Some(queue) = &mut self.queue {
            return queue.read(&mut [0; 4096]).await.map(drop);
        }
        tokio::time::sleep(LOOK).await;
        match open(&self.directory) {
            Ok(queue) => self.queue = Some(queue),
            Err(error) if is_shortage(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn open(directory: &Path) -> io::Result<Receiver> {
    let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    let coming_and_going =
        WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE | WatchFlags::MOVED_FROM;
    inotify::add_watch(&events, directory, coming_and_going)?;
    Receiver::from_owned_fd_unchecked(events)
}

/// inotify_init1(2) and inotify_add_watch(2): EMFILE for instances, ENOSPC for watches.
fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NOSPC))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "inotify watches directories of this computer")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_queue_it_looks_and_has_one_as_soon_as_there_is_room() {
        let directory = tempfile::tempdir().unwrap();
        let mut watched = Watched { directory: directory.path().to_owned(), queue: None };
        watched.changed().await.unwrap();
        assert!(watched.queue.is_some(), "there was room again");
        std::fs::write(directory.path().join("kubelet.sock"), "").unwrap();
        watched.changed().await.unwrap();
    }

    #[tokio::test]
    async fn a_directory_that_is_gone_is_no_shortage() {
        let directory = tempfile::tempdir().unwrap();
        let gone = directory.path().join("gone");
        assert_eq!(
            Watched::new(&gone).err().map(|error| error.kind()),
            Some(io::ErrorKind::NotFound)
        );
        let mut watched = Watched { directory: gone, queue: None };
        assert_eq!(watched.changed().await.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(is_shortage(&Errno::MFILE.into()) && is_shortage(&Errno::NOSPC.into()));
    }
}
