//! Files, locks, programs and waits for files over the running kernel. No privilege is needed but where it is said.

#![allow(clippy::unwrap_used)] // Helpers of tests may, as the tests do.

#[path = "support/mod.rs"]
mod support;

use expect_test::expect;
use host::linux::LinuxHost;
use host::seam::{FileKind, Host, Interest, Program, Refusal, Woken};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SOON: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_secs(10);

/// The host as it is from a pod: `directory` is its root.
fn mounted(directory: &TempDir) -> LinuxHost {
    LinuxHost::new(directory.path().to_str().unwrap()).unwrap()
}

fn plain() -> LinuxHost {
    LinuxHost::new("/").unwrap()
}

fn said<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> String {
    outcome.unwrap_err().to_string()
}

fn text(host: &LinuxHost, path: &str) -> String {
    String::from_utf8(host.read(path).unwrap()).unwrap()
}

#[test]
fn a_file_is_replaced_read_written_listed_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let host = mounted(&directory);
    host.replace("/etc/modprobe.d/rdma.conf", b"options ib_core netns_mode=0\n", 0o640).unwrap();
    assert_eq!(text(&host, "/etc/modprobe.d/rdma.conf"), "options ib_core netns_mode=0\n");
    host.write("/etc/modprobe.d/rdma.conf", "short").unwrap();
    assert_eq!(text(&host, "/etc/modprobe.d/rdma.conf"), "short");
    host.replace("/etc/modprobe.d/a.conf", b"", 0o644).unwrap();
    assert_eq!(host.list("/etc/modprobe.d").unwrap(), ["a.conf", "rdma.conf"]);
    let found = host.metadata("/etc/modprobe.d/rdma.conf").unwrap();
    assert_eq!((found.kind, found.size, found.major, found.minor), (FileKind::File, 5, 0, 0));
    assert_eq!(host.metadata("/etc").unwrap().kind, FileKind::Directory);
    host.remove("/etc/modprobe.d/rdma.conf").unwrap();
    host.remove("/etc/modprobe.d/rdma.conf").unwrap();
    host.remove("/nowhere/at/all").unwrap();
    assert_eq!(host.list("/etc/modprobe.d").unwrap(), ["a.conf"]);
}

#[test]
fn what_is_added_stands_at_the_end_and_no_directory_is_made_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let host = mounted(&directory);
    let refused = said(host.append("/var/log/sriov.log", b"lost"));
    assert_eq!(refused, "add to /var/log/sriov.log: no such file or directory");
    std::fs::create_dir_all(directory.path().join("var/log")).unwrap();
    host.append("/var/log/sriov.log", b"one\n").unwrap();
    host.append("/var/log/sriov.log", b"two\n").unwrap();
    assert_eq!(text(&host, "/var/log/sriov.log"), "one\ntwo\n");
}

#[test]
fn what_is_refused_says_what_was_tried() {
    let directory = tempfile::tempdir().unwrap();
    let host = mounted(&directory);
    std::fs::write(directory.path().join("file"), "").unwrap();
    std::fs::create_dir(directory.path().join("directory")).unwrap();
    let outcomes = [
        said(host.read("/gone")),
        said(host.read("/directory")),
        said(host.write("/gone", "4\n")),
        said(host.list("/file")),
        said(host.link_target("/file")),
        said(host.metadata("/gone")),
        said(host.replace("/file/below", b"", 0o644)),
        said(host.replace("/directory", b"", 0o644)),
        said(host.remove("/directory")),
        said(host.lock("/file/below", SOON)),
        said(host.read("no/absolute/path")),
        said(LinuxHost::new("/no/such/root")),
    ];
    expect![[r#"
        read /gone: no such file or directory
        read /directory: is a directory
        write 4 to /gone: no such file or directory
        list /file: not a directory
        read the link /file: invalid argument
        look at /gone: no such file or directory
        replace /file/below: not a directory
        replace /directory: is a directory
        remove /directory: is a directory
        lock /file/below: not a directory
        read no/absolute/path: invalid argument
        open the root /no/such/root: no such file or directory"#]]
    .assert_eq(&outcomes.join("\n"));
    assert_eq!(host.list("/").unwrap(), ["directory", "file"], "no temporary file stays");
}

#[test]
fn a_link_with_an_absolute_target_stays_inside_the_root() {
    let directory = tempfile::tempdir().unwrap();
    let host = mounted(&directory);
    host.replace("/run/ironrail/offer.json", b"ours", 0o644).unwrap();
    std::fs::create_dir(directory.path().join("var")).unwrap();
    symlink("/run", directory.path().join("var/run")).unwrap();
    symlink("../../../../../../etc/hostname", directory.path().join("var/escape")).unwrap();
    assert_eq!(text(&host, "/var/run/ironrail/offer.json"), "ours");
    host.replace("/var/run/ironrail/offer.json", b"new", 0o644).unwrap();
    assert_eq!(text(&host, "/run/ironrail/offer.json"), "new");
    assert_eq!(host.link_target("/var/run").unwrap(), "/run");
    expect!["read /var/escape: no such file or directory"]
        .assert_eq(&said(host.read("/var/escape")));
}

#[test]
fn modes_are_exact_whatever_the_umask_says() {
    let directory = tempfile::tempdir().unwrap();
    let host = mounted(&directory);
    let mode = |path: &str| {
        let path = format!("{}{path}", directory.path().display());
        Path::new(&path).metadata().unwrap().permissions().mode() & 0o7777
    };
    host.replace("/var/lib/ironrail/reboots.json", b"[]", 0o666).unwrap();
    assert_eq!(mode("/var/lib/ironrail/reboots.json"), 0o666);
    assert_eq!(mode("/var/lib/ironrail"), 0o755);
    host.replace("/var/lib/ironrail/reboots.json", b"[]", 0o600).unwrap();
    assert_eq!(mode("/var/lib/ironrail/reboots.json"), 0o600);
}

#[test]
fn a_reader_sees_the_old_content_or_the_new_and_never_a_part() {
    let directory = tempfile::tempdir().unwrap();
    let host = mounted(&directory);
    let contents = [vec![b'a'; 50_000], vec![b'b'; 70_000]];
    host.replace("/offer.json", &contents[0], 0o644).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..40 {
                host.replace("/offer.json", &contents[round % 2], 0o644).unwrap();
            }
        });
        while !writer.is_finished() {
            let found = host.read("/offer.json").unwrap();
            assert!(contents.contains(&found), "{} bytes", found.len());
        }
    });
    assert_eq!(host.list("/").unwrap(), ["offer.json"]);
}

#[test]
fn a_lock_is_held_by_one_and_ends_with_its_guard() {
    let directory = tempfile::tempdir().unwrap();
    let host = mounted(&directory);
    let held = host.lock("/run/ironrail/vf.lock", Duration::ZERO).unwrap();
    let before = Instant::now();
    expect!["lock /run/ironrail/vf.lock: timed out"]
        .assert_eq(&said(host.lock("/run/ironrail/vf.lock", Duration::ZERO)));
    assert!(before.elapsed() < LATE);
    expect!["lock /run/ironrail/vf.lock: timed out"]
        .assert_eq(&said(host.lock("/run/ironrail/vf.lock", SOON)));
    assert!(before.elapsed() >= SOON);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| host.lock("/run/ironrail/vf.lock", LATE));
        std::thread::sleep(SOON);
        drop(held);
        waiting.join().unwrap().unwrap();
    });
    // A child that another test forks holds the file open until its exec, so one try may be too early.
    host.lock("/run/ironrail/vf.lock", LATE).unwrap();
}

#[test]
fn the_kernels_own_files_are_read_as_they_are() {
    for host in [plain(), LinuxHost::new("/.").unwrap()] {
        assert_eq!(text(&host, "/sys/class/net/lo/mtu").trim(), "65536");
        assert!(host.list("/sys/class/net").unwrap().contains(&"lo".to_owned()));
        let null = host.metadata("/dev/null").unwrap();
        assert_eq!((null.kind, null.major, null.minor), (FileKind::CharacterDevice, 1, 3));
        // A magic link: no path, but a namespace with an identity.
        let own = host.metadata("/proc/self/ns/net").unwrap();
        assert_eq!(own, host.metadata("/proc/thread-self/ns/net").unwrap());
        assert_ne!(own.inode, 0);
        expect!["write 9 to /sys/class/net/lo/ifindex: permission denied"]
            .assert_eq(&said(host.write("/sys/class/net/lo/ifindex", "9\n")));
    }
}

/// An IPAM plugin is the one program that tests can bring along.
fn script(directory: &TempDir, content: &str) -> Program {
    let path = directory.path().join("plugin");
    std::fs::write(&path, format!("#!/bin/sh\n{content}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let environment = vec!["CNI_COMMAND=ADD".to_owned()];
    Program::Ipam { path: path.to_str().unwrap().to_owned(), environment }
}

#[test]
fn a_program_is_fed_heard_and_judged() {
    let directory = tempfile::tempdir().unwrap();
    let program = script(&directory, "cat; echo \"$1 $CNI_COMMAND\"; echo trouble >&2; exit 3");
    for host in [plain(), LinuxHost::new("/.").unwrap()] {
        let output = host.run(&program, &["first"], b"{}\n").unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "{}\nfirst ADD\n");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "trouble\n");
        assert_eq!(output.status, 3);
    }
}

#[test]
fn a_programs_environment_is_what_was_said_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let output = plain().run(&script(&directory, "env"), &[], b"").unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    // The shell adds the last two by itself.
    names.retain(|name| !["PWD", "_", "SHLVL", "OLDPWD"].contains(name));
    assert_eq!(names, ["CNI_COMMAND", "LC_ALL", "PATH"]);
}

#[test]
fn a_program_that_dies_of_a_signal_says_so_in_its_status() {
    let directory = tempfile::tempdir().unwrap();
    let output = plain().run(&script(&directory, "kill -9 $$"), &[], b"").unwrap();
    assert_eq!(output.status, 137);
}

#[test]
fn much_input_to_a_program_that_does_not_read_it_and_much_output_are_no_hang() {
    let directory = tempfile::tempdir().unwrap();
    let input = vec![b'x'; 1 << 20];
    let deaf = plain().run(&script(&directory, "exit 0"), &[], &input).unwrap();
    assert_eq!(deaf.status, 0);
    let echo = plain().run(&script(&directory, "cat"), &[], &input).unwrap();
    assert_eq!(echo.stdout.len(), input.len());
}

#[test]
fn a_background_child_that_keeps_the_pipes_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let before = Instant::now();
    let output = plain().run(&script(&directory, "sleep 5 & echo done"), &[], b"").unwrap();
    assert_eq!(output.stdout, b"done\n");
    assert!(before.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_program_that_is_not_installed_is_not_found() {
    let directory = tempfile::tempdir().unwrap();
    let host = mounted(&directory);
    expect!["run grubby --info=ALL: no such file or directory"].assert_eq(&said(host.run(
        &Program::Grubby,
        &["--info=ALL"],
        b"",
    )));
    host.replace("/usr/bin/grubby", b"no program", 0o644).unwrap();
    expect!["run grubby: no such file or directory"].assert_eq(&said(host.run(
        &Program::Grubby,
        &[],
        b"",
    )));
}

#[test]
fn a_wait_ends_when_a_file_is_replaced_made_or_removed() {
    let directory = tempfile::tempdir().unwrap();
    let host = mounted(&directory);
    host.replace("/run/ironrail/offer.json", b"1", 0o644).unwrap();
    let interests = [Interest::File("/run/ironrail/offer.json".to_owned())];
    assert_eq!(host.wait(&interests, LATE), Woken::ByEvent, "the first wait says: look");
    assert_eq!(host.wait(&interests, SOON), Woken::ByTimeout);
    for _ in 0..2 {
        host.replace("/run/ironrail/offer.json", b"2", 0o644).unwrap();
        assert_eq!(host.wait(&interests, LATE), Woken::ByEvent);
    }
    host.replace("/run/ironrail/claims.json", b"another file", 0o644).unwrap();
    assert_eq!(host.wait(&interests, SOON), Woken::ByTimeout);
    host.remove("/run/ironrail/offer.json").unwrap();
    assert_eq!(host.wait(&interests, LATE), Woken::ByEvent);
}

#[test]
fn a_wait_for_a_directory_ends_when_an_entry_changes() {
    let directory = tempfile::tempdir().unwrap();
    let host = mounted(&directory);
    host.replace("/kubelet/kubelet.sock", b"", 0o644).unwrap();
    let interests = [Interest::File("/kubelet".to_owned())];
    host.wait(&interests, LATE);
    host.remove("/kubelet/kubelet.sock").unwrap();
    assert_eq!(host.wait(&interests, LATE), Woken::ByEvent);
}

#[test]
fn a_wait_for_a_file_whose_directory_comes_later_ends_with_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let host = mounted(&directory);
    let interests = [Interest::File("/run/ironrail/offer.json".to_owned())];
    assert_eq!(host.wait(&interests, LATE), Woken::ByEvent, "the first wait says: look");
    host.replace("/run/other", b"", 0o644).unwrap();
    assert_eq!(host.wait(&interests, LATE), Woken::ByEvent, "the directory above came");
    assert_eq!(host.wait(&interests, LATE), Woken::ByEvent, "listening nearer: look");
    host.replace("/run/ironrail/offer.json", b"1", 0o644).unwrap();
    assert_eq!(host.wait(&interests, LATE), Woken::ByEvent);
}

/// A file system of some pages that only a process of ours sees, and we through it.
struct SmallDisk {
    keeper: Child,
    answers: BufReader<ChildStdout>,
}

impl SmallDisk {
    fn new(place: &Path) -> Option<Self> {
        let script = "mount -t tmpfs -o size=64k disk \"$0\" && echo mounted && read line && \
            mount -o remount,ro,size=64k \"$0\" && echo read-only && read line";
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "sh", "-c", script]).arg(place);
        unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut keeper = unshare.spawn().ok()?;
        let answers = BufReader::new(keeper.stdout.take()?);
        let mut disk = Self { keeper, answers };
        (disk.answer() == "mounted").then_some(disk)
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn make_read_only(&mut self) {
        self.keeper.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        assert_eq!(self.answer(), "read-only");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The mount ends with the one process that sees it.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

#[test]
fn a_full_disk_and_a_read_only_one_refuse_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut disk) = SmallDisk::new(directory.path()) else {
        return support::skip("root", "cannot mount a small disk");
    };
    let seen = format!("/proc/{}/root{}", disk.keeper.id(), directory.path().display());
    let host = LinuxHost::new(&seen).unwrap();
    let path = "/etc/modprobe.d/rdma.conf";
    host.replace(path, b"before", 0o644).unwrap();
    let full = said(host.replace(path, &[b'a'; 1 << 20], 0o644));
    let (kept, left) = (text(&host, path), host.list("/etc/modprobe.d").unwrap().join(" "));
    disk.make_read_only();
    let refused = [
        said(host.replace(path, b"after", 0o644)),
        said(host.write(path, "after")),
        said(host.remove(path)),
    ];
    expect![[r#"
        replace /etc/modprobe.d/rdma.conf: no space left on device
        before
        rdma.conf
        replace /etc/modprobe.d/rdma.conf: read-only file system
        write after to /etc/modprobe.d/rdma.conf: read-only file system
        remove /etc/modprobe.d/rdma.conf: read-only file system"#]]
    .assert_eq(&[full, kept, left, refused.join("\n")].join("\n"));
}
