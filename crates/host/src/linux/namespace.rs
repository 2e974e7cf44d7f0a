//! Network namespaces: work that must run in one runs on a thread of its own, which ends with the work.
//!
//! A thread that entered a namespace never goes back and never does anything else, so no error on the way can leave a
//! thread of ours in a pod's namespace.

use super::Failure;
use super::files::Root;
use crate::seam::Namespace;
use rustix::fs::{Mode, OFlags, fstat};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::os::fd::{AsFd, OwnedFd};

/// Where namespaces are found.
#[derive(Debug)]
pub(super) struct Spaces {
    /// The path of the host's own.
    home: String,
}

impl Spaces {
    pub(super) fn new(home: &str) -> Self {
        Self { home: home.to_owned() }
    }

    pub(super) fn open(&self, root: &Root, space: &Namespace) -> Result<OwnedFd, Errno> {
        let path = match space {
            Namespace::Host => &self.home,
            Namespace::At(path) => path,
        };
        root.open_path(path, OFlags::RDONLY, Mode::empty())
    }

    /// The namespace that something is moved to, where it is moved.
    pub(super) fn open_target(
        &self,
        root: &Root,
        target: Option<&Namespace>,
    ) -> Result<Option<OwnedFd>, Errno> {
        target.map(|space| self.open(root, space)).transpose()
    }

    /// Runs `work` in a namespace.
    pub(super) fn within<T: Send>(
        &self,
        root: &Root,
        space: &Namespace,
        work: impl FnOnce() -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        let mut answer = Err(Errno::IO.into());
        self.run(root, space, Box::new(|| answer = work()))?;
        answer
    }

    /// The same without the answer's type, so that the thread is in the program once.
    fn run(
        &self,
        root: &Root,
        space: &Namespace,
        work: Box<dyn FnOnce() + Send + '_>,
    ) -> Result<(), Failure> {
        let namespace = self.open(root, space)?;
        if is_ours(&namespace)? {
            work();
            return Ok(());
        }
        let entered = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                work();
                Ok(())
            });
            thread.join()
        });
        entered.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// The calling thread is in the namespace already.
fn is_ours(namespace: &OwnedFd) -> Result<bool, Errno> {
    let own = rustix::fs::stat("/proc/thread-self/ns/net")?;
    let other = fstat(namespace)?;
    Ok((own.st_dev, own.st_ino) == (other.st_dev, other.st_ino))
}
