//! Waiting for the world: uevents, link and RDMA notifications, changes of files, over one `poll`.
//!
//! A source stays open between two waits of a thread, so nothing that happens while the thread looks around is lost. The
//! first wait for an interest returns at once: what happened before we listened is unknown, so the caller looks again.

use super::files::{Root, split};
use super::namespace::Spaces;
use super::socket::{RDMA, ROUTE, UEVENT};
use crate::seam::{Interest, Namespace, Woken};
use netlink_sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, WatchFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The kernel's own messages, not udev's.
const UEVENT_KERNEL: u32 = 1;
const RTMGRP_LINK: u32 = 1;
/// RDMA_NL_GROUP_NOTIFY, since Linux 6.12.
const RDMA_GROUP: u32 = 4;

static NEXT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static SOURCES: RefCell<BTreeMap<(u64, String), Source>> = const { RefCell::new(BTreeMap::new()) };
}

/// The waiting of one host; its sources belong to the threads that wait.
#[derive(Debug)]
pub(super) struct Waiter {
    id: u64,
}

enum Source {
    Socket(Socket),
    Files {
        inotify: OwnedFd,
        /// The entry that matters of each watched directory; None for any.
        watched: BTreeMap<i32, Option<String>>,
        /// The file's directory is not there yet: the nearest one above it is watched in its place.
        provisional: bool,
    },
}

impl Waiter {
    pub(super) fn new() -> Self {
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    pub(super) fn wait(
        &self,
        root: &Root,
        spaces: &Spaces,
        interests: &[Interest],
        timeout: Duration,
    ) -> Woken {
        SOURCES.with_borrow_mut(|sources| {
            let wanted: BTreeMap<(u64, String), &Interest> = interests
                .iter()
                .map(|interest| ((self.id, format!("{interest:?}")), interest))
                .collect();
            sources.retain(|key, _| key.0 != self.id || wanted.contains_key(key));
            let mut is_new = false;
            for (key, interest) in &wanted {
                if !sources.contains_key(key) {
                    // What cannot be listened to (no RDMA, a directory that nobody may read) is left to the timeout.
                    if let Ok(source) = open(root, spaces, interest) {
                        sources.insert(key.clone(), source);
                        is_new = true;
                    }
                }
            }
            if is_new {
                return Woken::ByEvent;
            }
            sleep(self.id, sources, timeout)
        })
    }
}

fn sleep(host: u64, sources: &mut BTreeMap<(u64, String), Source>, timeout: Duration) -> Woken {
    #[allow(clippy::disallowed_methods)]
    let deadline = Instant::now().checked_add(timeout);
    loop {
        #[allow(clippy::disallowed_methods)]
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let mut ready: Vec<PollFd<'_>> = sources
            .iter()
            .filter(|(key, _)| key.0 == host)
            .map(|(_, source)| PollFd::from_borrowed_fd(source.fd(), PollFlags::IN))
            .collect();
        match poll(&mut ready, left.as_ref()) {
            Ok(0) => return Woken::ByTimeout,
            // A signal is no event of ours, but its handler may have set a flag that the caller looks at.
            Err(Errno::INTR) => return Woken::ByEvent,
            Ok(_) | Err(_) => {}
        }
        let mut spent = Vec::new();
        let mut woken = false;
        for (key, source) in sources.iter_mut().filter(|(key, _)| key.0 == host) {
            let drained = source.drain();
            woken |= drained;
            if drained && source.is_provisional() {
                spent.push(key.clone());
            }
        }
        for key in spent {
            sources.remove(&key);
        }
        if woken {
            return Woken::ByEvent;
        }
    }
}

fn open(root: &Root, spaces: &Spaces, interest: &Interest) -> Result<Source, Errno> {
    let at_home = |work: fn() -> Result<Socket, std::io::Error>| {
        let opened =
            spaces.within(root, &Namespace::Host, || Ok(work().map_err(super::files::errno)?));
        opened.map(Source::Socket).map_err(|failure| failure.errno)
    };
    match interest {
        Interest::Uevent => at_home(|| listen(UEVENT, UEVENT_KERNEL)),
        Interest::Link => at_home(|| listen(ROUTE, RTMGRP_LINK)),
        Interest::Rdma => {
            root.has_rdma()?;
            at_home(|| {
                let socket = listen(RDMA, 0)?;
                socket.add_membership(RDMA_GROUP)?;
                Ok(socket)
            })
        }
        Interest::File(path) => watch(root, path),
    }
}

fn listen(protocol: isize, groups: u32) -> Result<Socket, std::io::Error> {
    let mut socket = Socket::new(protocol)?;
    socket.bind(&SocketAddr::new(0, groups))?;
    socket.set_non_blocking(true)?;
    Ok(socket)
}

/// Watches the directory of the file, because `replace` puts another file in its place, and, where the path is a
/// directory, its entries.
fn watch(root: &Root, path: &str) -> Result<Source, Errno> {
    let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let mut watched = BTreeMap::new();
    let directory =
        |path: &str| root.open_path(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
    if let Ok(itself) = directory(path) {
        watched.insert(add(&inotify, itself.as_fd())?, None);
    }
    let (mut above, mut name) = split(path.trim_end_matches('/'))?;
    let mut provisional = false;
    let parent = loop {
        match directory(above) {
            Err(Errno::NOENT) if above != "/" => {
                provisional = true;
                (above, name) = split(above)?;
            }
            opened => break opened?,
        }
    };
    watched.insert(add(&inotify, parent.as_fd())?, Some(name.to_owned()));
    Ok(Source::Files { inotify, watched, provisional })
}

/// The watch is put on what is open, so that no link leads it out of the host's root.
fn add(inotify: &OwnedFd, directory: BorrowedFd<'_>) -> Result<i32, Errno> {
    let flags = WatchFlags::CREATE
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF;
    inotify::add_watch(inotify, format!("/proc/self/fd/{}", directory.as_raw_fd()), flags)
}

impl Source {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Socket(socket) => socket.as_fd(),
            Self::Files { inotify, .. } => inotify.as_fd(),
        }
    }

    /// A source that must be opened anew after it has spoken.
    fn is_provisional(&self) -> bool {
        matches!(self, Self::Files { provisional: true, .. })
    }

    /// Takes all that has come; true where something of interest was in it.
    fn drain(&mut self) -> bool {
        match self {
            Self::Socket(socket) => drain_socket(socket),
            Self::Files { inotify, watched, .. } => drain_files(inotify, watched),
        }
    }
}

fn drain_socket(socket: &Socket) -> bool {
    let mut any = false;
    let mut buffer = Vec::with_capacity(4096);
    loop {
        buffer.clear();
        match socket.recv_from(&mut buffer, 0).map_err(super::files::errno) {
            // ENOBUFS: so much has happened that messages are lost. Then something has happened.
            Ok(_) | Err(Errno::NOBUFS) => any = true,
            Err(Errno::INTR) => {}
            Err(_) => return any,
        }
    }
}

fn drain_files(inotify: &OwnedFd, watched: &BTreeMap<i32, Option<String>>) -> bool {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(inotify, &mut buffer);
    let mut any = false;
    while let Ok(event) = events.next() {
        let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
        any |= match watched.get(&event.wd()) {
            Some(Some(wanted)) => name.is_none_or(|name| name == *wanted),
            // Any entry, or an overflow, which belongs to no watch.
            Some(None) | None => true,
        };
    }
    any
}
