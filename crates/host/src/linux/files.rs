//! Files of the host: every path is resolved inside the root, also through symbolic links.
//!
//! In a pod the host's root is mounted at `/host`; a link such as `/var/run -> /run` must then end in the host's `/run`,
//! not in the pod's. `openat2` with RESOLVE_IN_ROOT does that in the kernel, without a race.

use crate::leftovers;
use crate::seam::{FileKind, Lock, Metadata};
use rustix::fs::{
    AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, ResolveFlags, fchmod, flock, fstat, fsync,
    mkdirat, openat, openat2, readlinkat, renameat, unlinkat,
};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The directory that is the host's root.
#[derive(Debug)]
pub(super) struct Root {
    path: String,
    /// None for `/`: the kernel resolves such paths as they are.
    directory: Option<OwnedFd>,
}

/// Makes the names of temporary files differ within a process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// How long a lock that is held is left alone between two tries, at first and at last.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

impl Root {
    pub(super) fn open(path: &str) -> Result<Self, Errno> {
        let plain = path.trim_end_matches('/').to_owned();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match plain.is_empty() {
            true => None,
            false => Some(openat(CWD, plain.as_str(), flags, Mode::empty())?),
        };
        Ok(Self { path: plain, directory })
    }

    /// Where the root is mounted; None for `/`.
    pub(super) fn mounted_at(&self) -> Option<&str> {
        self.directory.as_ref().map(|_| self.path.as_str())
    }

    /// Opens a path of the host.
    pub(super) fn open_path(
        &self,
        path: &str,
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd, Errno> {
        if !path.starts_with('/') {
            return Err(Errno::INVAL);
        }
        let flags = flags | OFlags::CLOEXEC;
        let Some(root) = &self.directory else {
            return openat(CWD, path, flags, mode);
        };
        match openat2(root, path, flags, mode, ResolveFlags::IN_ROOT) {
            Err(Errno::LOOP | Errno::XDEV) if path.starts_with("/proc/") => {
                self.open_magic(path, flags, mode)
            }
            // Linux before 5.6: links with an absolute target lead out of the root there.
            Err(Errno::NOSYS) => openat(CWD, format!("{}{path}", self.path), flags, mode),
            opened => opened,
        }
    }

    /// The magic links of procfs (`/proc/1/ns/net`) are no paths, so RESOLVE_IN_ROOT refuses them: resolve the directory
    /// inside the root, and follow the last step alone.
    fn open_magic(&self, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let (directory, name) = split(path)?;
        let parent = OFlags::PATH | OFlags::DIRECTORY;
        let root = self.directory.as_ref().map_or(CWD, AsFd::as_fd);
        let parent = openat2(
            root,
            directory,
            parent | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        )?;
        openat(parent, name, flags, mode)
    }

    pub(super) fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let mut content = Vec::new();
        let mut file = File::from(self.open_path(path, OFlags::RDONLY, Mode::empty())?);
        file.read_to_end(&mut content).map_err(errno)?;
        Ok(content)
    }

    pub(super) fn write(&self, path: &str, content: &str) -> Result<(), Errno> {
        let file = self.open_path(path, OFlags::WRONLY | OFlags::TRUNC, Mode::empty())?;
        // A kernel attribute takes its value from one write; a second one would be a second order.
        written_at_once(&file, content.as_bytes())
    }

    pub(super) fn list(&self, path: &str) -> Result<Vec<String>, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut names = Vec::new();
        for entry in Dir::new(self.open_path(path, flags, Mode::empty())?)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    pub(super) fn link_target(&self, path: &str) -> Result<String, Errno> {
        let link = self.open_path(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
        // The empty name means the descriptor itself. On anything but a link the kernel says ENOENT, which would read as
        // "not there" (fs/stat.c, do_readlinkat); what is open is there.
        let target = readlinkat(link, "", Vec::new()).map_err(|errno| match errno {
            Errno::NOENT => Errno::INVAL,
            other => other,
        })?;
        Ok(target.to_string_lossy().into_owned())
    }

    pub(super) fn metadata(&self, path: &str) -> Result<Metadata, Errno> {
        let found = fstat(self.open_path(path, OFlags::PATH, Mode::empty())?)?;
        let kind = match rustix::fs::FileType::from_raw_mode(found.st_mode) {
            rustix::fs::FileType::RegularFile => FileKind::File,
            rustix::fs::FileType::Directory => FileKind::Directory,
            rustix::fs::FileType::CharacterDevice => FileKind::CharacterDevice,
            _ => FileKind::Other,
        };
        Ok(Metadata {
            kind,
            size: u64::try_from(found.st_size).unwrap_or(0),
            device: found.st_dev,
            inode: found.st_ino,
            major: rustix::fs::major(found.st_rdev),
            minor: rustix::fs::minor(found.st_rdev),
        })
    }

    /// The RDMA subsystem is there. Opening its netlink socket would load it, and a look must not change the machine:
    /// `ib_core` takes its mode from its options at that moment (spec/lab.md, section 3, the trap).
    pub(super) fn has_rdma(&self) -> Result<(), Errno> {
        match self.metadata("/sys/module/ib_core") {
            Ok(_) => Ok(()),
            Err(_) => Err(Errno::PROTONOSUPPORT),
        }
    }

    pub(super) fn replace(&self, path: &str, content: &[u8], mode: u32) -> Result<(), Errno> {
        let (directory, name) = split(path)?;
        let directory = self.make_directory(directory)?;
        let (temporary, file) = create_beside(&directory, name, Mode::from_raw_mode(mode))?;
        let outcome = fill(file, content, Mode::from_raw_mode(mode))
            .and_then(|()| renameat(&directory, temporary.as_str(), &directory, name));
        if let Err(errno) = outcome {
            // The first error is the one that matters; a temporary file that stays behind is nobody's file.
            let _ = unlinkat(&directory, temporary.as_str(), AtFlags::empty());
            return Err(errno);
        }
        fsync(&directory)
    }

    /// The kernel puts what comes in one write with O_APPEND at the end as a whole, whoever else is at it.
    pub(super) fn append(&self, path: &str, content: &[u8]) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
        let file = self.open_path(path, flags, Mode::from_raw_mode(0o644))?;
        written_at_once(&file, content)
    }

    /// The directory, made with mode 0755 where it is missing, and on disk before anything is put into it.
    fn make_directory(&self, path: &str) -> Result<OwnedFd, Errno> {
        let open = || self.open_path(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
        match open() {
            Err(Errno::NOENT) if path != "/" => {}
            opened => return opened,
        }
        let (parent, name) = split(path)?;
        let parent = self.make_directory(parent)?;
        let mode = Mode::from_raw_mode(0o755);
        match mkdirat(&parent, name, mode) {
            Err(Errno::EXIST) => return open(),
            made => made?,
        }
        let directory = open()?;
        // The umask of whoever started us has no say in it.
        fchmod(&directory, mode)?;
        fsync(&parent)?;
        Ok(directory)
    }

    pub(super) fn remove(&self, path: &str) -> Result<(), Errno> {
        let (directory, name) = split(path)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let removed = self
            .open_path(directory, flags, Mode::empty())
            .and_then(|directory| unlinkat(directory, name, AtFlags::empty()));
        match removed {
            Err(Errno::NOENT) => Ok(()),
            other => other,
        }
    }

    pub(super) fn lock(&self, path: &str, timeout: Duration) -> Result<Lock, Errno> {
        let (directory, _) = split(path)?;
        self.make_directory(directory)?;
        let mode = Mode::from_raw_mode(0o644);
        let file = self.open_path(path, OFlags::RDWR | OFlags::CREATE, mode)?;
        // flock(2) knows no deadline, and an alarm would be the whole process's; so we try again, ever more rarely.
        #[allow(clippy::disallowed_methods)]
        let deadline = Instant::now() + timeout;
        let mut pause = FIRST_PAUSE;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock::new(file)),
                Err(Errno::WOULDBLOCK) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            }
            #[allow(clippy::disallowed_methods)]
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Errno::TIMEDOUT);
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// One write that takes all, or a failure.
fn written_at_once(file: impl AsFd, content: &[u8]) -> Result<(), Errno> {
    let written = loop {
        match rustix::io::write(&file, content) {
            Err(Errno::INTR) => {}
            done => break done?,
        }
    };
    if written == content.len() { Ok(()) } else { Err(Errno::IO) }
}

/// A file that is not there yet, and its name. One may be there already: in a container every first process is process 1,
/// and the one before may have been killed.
fn create_beside(directory: &OwnedFd, name: &str, mode: Mode) -> Result<(String, File), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let temporary = leftovers::temporary(name, std::process::id(), number);
        match openat(directory, temporary.as_str(), flags, mode) {
            Err(Errno::EXIST) => {}
            made => return Ok((temporary, File::from(made?))),
        }
    }
}

/// Writes the file to the disk.
fn fill(mut file: File, content: &[u8], mode: Mode) -> Result<(), Errno> {
    fchmod(&file, mode)?;
    file.write_all(content).map_err(errno)?;
    fsync(&file)
}

/// A path's directory and its last name.
pub(super) fn split(path: &str) -> Result<(&str, &str), Errno> {
    match path.rsplit_once('/') {
        Some((_, "" | "." | "..")) | None => Err(Errno::INVAL),
        Some(("", name)) => Ok(("/", name)),
        Some((directory, name)) => Ok((directory, name)),
    }
}

pub(super) fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
