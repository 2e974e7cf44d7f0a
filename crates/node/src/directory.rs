//! Shell: tells when an entry of a directory comes or goes (inotify), for the kubelet's sockets.

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::io;
use std::path::Path;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

/// The queue of inotify. It is read like a pipe, and tokio's type for pipes is the one that takes such a descriptor.
pub struct Watched(Receiver);

impl Watched {
    pub fn new(directory: &Path) -> io::Result<Self> {
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let coming_and_going =
            WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE | WatchFlags::MOVED_FROM;
        inotify::add_watch(&events, directory, coming_and_going)?;
        Ok(Self(Receiver::from_owned_fd_unchecked(events)?))
    }

    /// Returns when something came or went since the last call. What it was does not matter: the caller looks itself.
    pub async fn changed(&mut self) -> io::Result<()> {
        self.0.read(&mut [0; 4096]).await.map(drop)
    }
}
