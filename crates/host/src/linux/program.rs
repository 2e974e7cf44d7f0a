//! Programs of the host: found in the host's root, run in it, with an environment that is said in full and a deadline.

use super::files::{Root, errno};
use crate::seam::{Output, Program};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fstat};
use rustix::io::Errno;
use std::ffi::CString;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DIRECTORIES: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// How often we look whether the program has ended while its pipes are silent.
const GLANCE: Duration = Duration::from_millis(20);
/// What a program may say at most; the rest is read and dropped.
const LONGEST: usize = 4 * 1024 * 1024;

/// How long a program may take. Drivers probe cards inside `modprobe`; an image-based system writes a whole new tree.
fn deadline(program: &Program) -> Duration {
    Duration::from_secs(match program {
        Program::Modprobe | Program::Rmmod => 120,
        Program::Systemctl | Program::SystemdRun | Program::Udevadm => 120,
        Program::Grubby | Program::Mstconfig => 120,
        Program::UpdateGrub | Program::Mstfwreset => 600,
        Program::RpmOstree | Program::TransactionalUpdate => 1800,
        // It is asked for its version.
        Program::Own { .. } => 10,
        // The kubelet gives a sandbox four minutes in all.
        Program::Ipam { .. } => 120,
    })
}

pub(super) fn run(
    root: &Root,
    program: &Program,
    arguments: &[&str],
    input: &[u8],
) -> Result<Output, Errno> {
    let path = find(root, program.name())?;
    let mut command = Command::new(path);
    command.args(arguments).env_clear();
    // Tools translate their messages; we read some of them.
    command.env("PATH", DIRECTORIES.join(":")).env("LC_ALL", "C");
    if let Program::Ipam { environment, .. } = program {
        command.envs(environment.iter().filter_map(|pair| pair.split_once('=')));
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own, so that the deadline also ends what the program started.
    command.process_group(0);
    if let Some(mounted) = root.mounted_at() {
        enter(&mut command, CString::new(mounted).map_err(|_| Errno::INVAL)?);
    }
    let mut child = command.spawn().map_err(errno)?;
    let outcome = attend(&mut child, input, deadline(program));
    if outcome.is_err() {
        end(&mut child);
    }
    outcome
}

/// Makes the host's root the program's root.
fn enter(command: &mut Command, root: CString) {
    let into_root = move || {
        rustix::process::chroot(&root)?;
        rustix::process::chdir(c"/")?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two system calls on strings that exist already; it takes no lock
    // and allocates nothing.
    unsafe { command.pre_exec(into_root) };
}

/// The program's path in the host's root.
fn find(root: &Root, name: &str) -> Result<String, Errno> {
    if name.starts_with('/') {
        is_program(root, name)?;
        return Ok(name.to_owned());
    }
    let candidates = DIRECTORIES.iter().map(|directory| format!("{directory}/{name}"));
    candidates.into_iter().find(|path| is_program(root, path).is_ok()).ok_or(Errno::NOENT)
}

fn is_program(root: &Root, path: &str) -> Result<(), Errno> {
    let found = fstat(root.open_path(path, OFlags::PATH, Mode::empty())?)?;
    let is_file = rustix::fs::FileType::from_raw_mode(found.st_mode).is_file();
    if is_file && found.st_mode & 0o111 != 0 { Ok(()) } else { Err(Errno::ACCESS) }
}

/// Feeds and hears the program until it ends.
fn attend(child: &mut Child, input: &[u8], patience: Duration) -> Result<Output, Errno> {
    let mut stdin = child.stdin.take();
    let mut stdout = child.stdout.take();
    let mut stderr = child.stderr.take();
    for pipe in [
        stdin.as_ref().map(AsFd::as_fd),
        stdout.as_ref().map(AsFd::as_fd),
        stderr.as_ref().map(AsFd::as_fd),
    ] {
        pipe.map(do_not_block).transpose()?;
    }
    let mut output = Output::default();
    let mut unsent = input;
    #[allow(clippy::disallowed_methods)]
    let started = Instant::now();
    loop {
        // Asked before the pipes are read: what a program wrote before it ended is in them by then.
        let ended = child.try_wait().map_err(errno)?;
        feed(&mut stdin, &mut unsent)?;
        hear(&mut stdout, &mut output.stdout)?;
        hear(&mut stderr, &mut output.stderr)?;
        if let Some(status) = ended {
            // A background child of the program may hold the pipes for ever; we do not wait for it.
            output.status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            return Ok(output);
        }
        if started.elapsed() > patience {
            return Err(Errno::TIMEDOUT);
        }
        let reading = [stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)];
        let writing = stdin.as_ref().map(AsFd::as_fd);
        let reading =
            reading.into_iter().flatten().map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN));
        let writing = writing.map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::OUT));
        let mut pipes: Vec<PollFd<'_>> = reading.chain(writing).collect();
        let glance = Timespec { tv_sec: 0, tv_nsec: i64::from(GLANCE.subsec_nanos()) };
        match poll(&mut pipes, Some(&glance)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn do_not_block(pipe: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = rustix::fs::fcntl_getfl(pipe)?;
    rustix::fs::fcntl_setfl(pipe, flags | OFlags::NONBLOCK)
}

/// Writes what the pipe takes now; closes it when all is written or the program does not want it.
fn feed(pipe: &mut Option<std::process::ChildStdin>, unsent: &mut &[u8]) -> Result<(), Errno> {
    while let Some(open) = pipe {
        if unsent.is_empty() {
            *pipe = None;
            break;
        }
        match open.write(unsent).map_err(errno) {
            Ok(written) => *unsent = unsent.get(written..).unwrap_or_default(),
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            Err(Errno::PIPE) => *pipe = None,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Reads what is there now; closes the pipe at its end.
fn hear(pipe: &mut Option<impl Read>, heard: &mut Vec<u8>) -> Result<(), Errno> {
    let mut buffer = [0; 4096];
    while let Some(open) = pipe {
        match open.read(&mut buffer).map_err(errno) {
            Ok(0) => *pipe = None,
            Ok(length) => {
                let room = LONGEST.saturating_sub(heard.len());
                heard.extend_from_slice(&buffer[..length.min(room)]);
            }
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Kills the program with everything in its group, and takes its status so that no zombie stays.
fn end(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_end_is_ended_at_its_deadline_with_what_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let note = directory.path().join("grandchild");
        let mut command = Command::new("/bin/sh");
        let script = format!("sleep 60 & echo $! > {}; wait", note.display());
        command.args(["-c", &script]).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // The deadline must find a grandchild.
        while std::fs::read_to_string(&note).unwrap_or_default().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(attend(&mut child, b"", Duration::from_millis(100)), Err(Errno::TIMEDOUT));
        end(&mut child);
        let grandchild = std::fs::read_to_string(&note).unwrap();
        let stat = format!("/proc/{}/stat", grandchild.trim());
        // Dead, though whoever adopts orphans here may leave it a zombie.
        let gone = (0..400).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "))
        });
        assert!(gone);
    }
}
