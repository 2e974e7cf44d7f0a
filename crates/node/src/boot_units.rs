//! The boot phases as systemd units on a host: installed, looked for, and taken away.
//!
//! What a phase does is in `boot`. They come by `configurationMode: systemd` or by hand; the daemon writes them anew when
//! they differ from its own. Nothing that was there before is changed, and nothing is renamed in from another directory.

use api::files::{ORDER, RUN_SYSTEMD};
use api::{Timestamp, names};
use host::function::optional;
use host::mounts::{self, Keeps};
use host::seam::{Errno, Program};
use host::{Host, Refusal};
use std::time::Duration;

const DIRECTORY: &str = "/etc/systemd/system";
const WANTS: &str = "/etc/systemd/system/multi-user.target.wants";
const PROGRAM: &str = "ironrail-node";
/// Where our image has the program.
pub const IN_IMAGE: &str = "/usr/bin/ironrail-node";
/// Directories for programs, the first that can be written is taken: where `/usr` is read-only (Flatcar), custom has it
/// that programs of the administrator lie in `/opt/bin`.
const DIRECTORIES: [&str; 2] = ["/usr/local/bin", "/opt/bin"];
/// Each unit's phase and name.
const UNITS: [(&str, &str); 2] =
    [("pre", "ironrail-boot-pre.service"), ("post", "ironrail-boot-post.service")];
/// What starts containers: the runtimes, the kubelet, and the distributions of Kubernetes that bring a runtime of their
/// own. systemd does not mind the names of units that a host has not.
const RUNTIMES: &str = "containerd.service crio.service kubelet.service k3s.service k3s-agent.service rke2-server.service rke2-agent.service";

/// `systemctl` changes the links itself then, and does not ask systemd to: where SELinux is enforced, a policy may keep a
/// container from that, as privileged as it is (Debian's does), and not from the files.
const ON_FILES: &str = "--root=/";

/// When the units are to be looked at: once for each start, since this program may be a new one, and for each change of the
/// mode; and what failed again, with a pause that doubles.
#[derive(Debug, Clone, Default)]
pub struct Follow {
    by_mode: Option<bool>,
    failed: Option<(Duration, Timestamp)>,
}

const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(1800);

impl Follow {
    pub fn is_due(&self, by_mode: bool, now: Timestamp) -> bool {
        // A clock that was set back must not put it off.
        let waited = |at: Timestamp| now.duration_since(at).unsigned_abs();
        self.by_mode != Some(by_mode) || self.failed.is_some_and(|(pause, at)| waited(at) >= pause)
    }

    /// What came of looking at them.
    pub fn note(&mut self, by_mode: bool, went_well: bool, now: Timestamp) {
        let again = self.failed.filter(|_| self.by_mode == Some(by_mode));
        let pause = again.map_or(FIRST_PAUSE, |(pause, _)| (2 * pause).min(LONGEST_PAUSE));
        self.failed = (!went_well).then_some((pause, now));
        self.by_mode = Some(by_mode);
    }
}

/// Who had the units installed; only what the mode brought goes again with the mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// `configurationMode: systemd`.
    Mode,
    /// `ironrail-node install-boot`.
    Hand,
}

impl By {
    fn mark(self) -> &'static str {
        match self {
            Self::Mode => "for configurationMode systemd",
            Self::Hand => "by install-boot",
        }
    }
}

/// Units that are there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Installed {
    by: By,
    /// What the first of them starts.
    program: String,
}

fn installed(host: &dyn Host) -> Result<Option<Installed>, Refusal> {
    let [(_, first), _] = UNITS;
    let text = optional(host.read(&format!("{DIRECTORY}/{first}")))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let starts = text.lines().find_map(|line| line.strip_prefix("ExecStart="));
    let program = starts.and_then(|line| line.split(' ').next());
    let by = if text.contains(By::Mode.mark()) { By::Mode } else { By::Hand };
    Ok(program.map(|program| Installed { by, program: program.to_owned() }))
}

/// True when systemd starts the first phase at boot: `systemctl enable` has linked it, and its program is there.
pub fn is_installed(host: &dyn Host) -> Result<bool, Refusal> {
    let [(_, first), _] = UNITS;
    let links = optional(host.list(WANTS))?.unwrap_or_default();
    if !links.iter().any(|one| one == first) {
        return Ok(false);
    }
    let Some(there) = installed(host)? else { return Ok(false) };
    Ok(optional(host.metadata(&there.program))?.is_some())
}

/// Has the phases on this host as `configurationMode` says, and as this program writes them. What a person installed stays
/// in either mode. True when they are there.
pub fn follow(
    host: &dyn Host,
    by_mode: bool,
    program: impl FnOnce() -> Result<Vec<u8>, String>,
) -> Result<bool, String> {
    let there = installed(host).map_err(|refusal| format!("cannot {refusal}"))?;
    let by = match (&there, by_mode) {
        (None, false) => return Ok(false),
        (Some(Installed { by: By::Mode, .. }), false) => {
            return remove(host, None).map(|()| false);
        }
        (Some(Installed { by: By::Hand, .. }), _) => By::Hand,
        (_, true) => By::Mode,
    };
    // A person has said where; else the first directory that takes it today.
    let chosen = there.as_ref().filter(|_| by == By::Hand);
    let directory = chosen.and_then(|there| there.program.rsplit_once('/')).map(|(path, _)| path);
    has_levers(host)?;
    let binary = program()?;
    let is_current = |there: &Installed| is_current(host, there, by, &binary);
    if there.as_ref().is_none_or(|there| !is_current(there)) {
        install(host, directory, &binary, by)?;
    }
    Ok(true)
}

/// What cannot be read is written anew.
fn is_current(host: &dyn Host, there: &Installed, by: By, binary: &[u8]) -> bool {
    let is = |path: &str, content: &[u8]| host.read(path).is_ok_and(|found| found == content);
    let units = UNITS.iter().all(|(phase, name)| {
        is(&format!("{DIRECTORY}/{name}"), unit(phase, &there.program, by).as_bytes())
    });
    units && is_installed(host) == Ok(true) && is(&there.program, binary)
}

/// A phase may be killed at any instant, so systemd need not ask it to end: `KillSignal`.
fn unit(phase: &str, program: &str, by: By) -> String {
    let order = match phase {
        // Early, and by itself: before whatever configures the network, and so before `basic.target`. What systemd adds
        // by default would put it after that; of this it keeps that a shutdown ends it.
        "pre" => format!(
            "DefaultDependencies=no\nConflicts=shutdown.target\nAfter=local-fs.target systemd-modules-load.service systemd-udev-settle.service\nWants=systemd-udev-settle.service network-pre.target\nBefore=network-pre.target shutdown.target {RUNTIMES}"
        ),
        _ => format!("After=network.target ironrail-boot-pre.service\nBefore={RUNTIMES}"),
    };
    format!(
        "# Written {mark}; {daemon} writes it anew when it differs.\n[Unit]\nDescription=ironrail: RDMA mode and virtual functions ({phase})\nConditionPathExists={ORDER}\n{order}\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\nEnvironment=HOST_ROOT=/\nExecStart={program} boot {phase}\nTimeoutStartSec=300\nKillSignal=SIGKILL\n\n[Install]\nWantedBy=multi-user.target\n",
        mark = by.mark(),
        daemon = names::DAEMON
    )
}

/// A host that starts no units of ours at boot is refused before anything is written.
fn has_levers(host: &dyn Host) -> Result<(), String> {
    let why = if host.metadata(RUN_SYSTEMD).is_err() {
        format!("this host has no systemd ({RUN_SYSTEMD} is not there)")
    } else if mounts::keeps(host, DIRECTORY) == Keeps::UntilReboot {
        format!("{DIRECTORY} of this host is in memory and gone at its next boot")
    } else {
        return Ok(());
    };
    Err(format!(
        "cannot install the boot phases: {why}; without them the daemon sets mode and VFs after the container runtime has started"
    ))
}

/// Installs program and units: in this directory, or in the first that takes a program.
pub fn install(
    host: &dyn Host,
    directory: Option<&str>,
    binary: &[u8],
    by: By,
) -> Result<(), String> {
    has_levers(host)?;
    let failed = |what: &str, why: String| format!("cannot install the boot phases: {what}: {why}");
    let program = put(host, directory, binary).map_err(|(what, why)| failed(&what, why))?;
    for (phase, name) in UNITS {
        let path = format!("{DIRECTORY}/{name}");
        host.replace(&path, unit(phase, &program, by).as_bytes(), 0o644)
            .map_err(|refusal| failed(&path, refusal.reason()))?;
    }
    let names = UNITS.map(|(_, name)| name);
    let enable = [vec![ON_FILES, "enable"], names.to_vec()].concat();
    systemctl(host, &enable).map_err(|(what, why)| failed(&what, why))?;
    // For whoever looks before the next boot, which reads the units anyway.
    if let Err((what, why)) = systemctl(host, &["daemon-reload"]) {
        tracing::warn!("systemd knows of the boot phases from the next boot on: {what}: {why}");
    }
    tracing::info!("installed {program} and {}", names.join(", "));
    Ok(())
}

/// Makes the program in a directory for programs, and says where it is. An error says what was tried, and why it failed.
pub fn put(
    host: &dyn Host,
    directory: Option<&str>,
    binary: &[u8],
) -> Result<String, (String, String)> {
    let directories = directory.map_or(DIRECTORIES.to_vec(), |one| vec![one]);
    let mut read_only = Vec::new();
    for directory in directories {
        match try_and_put(host, &place(directory), binary)? {
            Some(program) => return Ok(program),
            None => read_only.push(directory.to_owned()),
        }
    }
    Err((
        read_only.join(", "),
        "read-only file system; give a directory for programs that this host can write, with --to"
            .to_owned(),
    ))
}

/// None where the directory cannot be written. The program is made in its directory, never renamed in from another, so that
/// it gets the type that SELinux gives to programs there, and systemd may run it; and it is tried there under another name
/// first, so that one that does not run here takes nobody's place.
fn try_and_put(
    host: &dyn Host,
    program: &str,
    binary: &[u8],
) -> Result<Option<String>, (String, String)> {
    let failed = |refusal: Refusal| (program.to_owned(), refusal.reason());
    let trial = trial(program);
    match host.replace(&trial, binary, 0o755) {
        Err(refusal) if refusal.errno == Errno::ROFS => return Ok(None),
        made => made.map_err(failed)?,
    }
    let why = does_not_run(host, &trial);
    host.remove(&trial).map_err(failed)?;
    if let Some(why) = why {
        return Err((
            program.to_owned(),
            format!(
                "it does not run on this host: {why}; give an ironrail-node that is linked statically, with --from"
            ),
        ));
    }
    host.replace(program, binary, 0o755).map_err(failed)?;
    Ok(Some(program.to_owned()))
}

fn trial(program: &str) -> String {
    format!("{program}.tried")
}

/// Why the program does not even say its version, run in the host's root.
fn does_not_run(host: &dyn Host, path: &str) -> Option<String> {
    match host.run(&Program::Own { path: path.to_owned() }, &["--version"], b"") {
        Ok(output) if output.status == 0 => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        // execve(2) of a program whose loader is not there.
        Err(refusal) => Some(refusal.reason()),
    }
}

/// Takes away what `install` has made, also where only a part of it is there. The units' state goes with them; what they
/// did to the host stays, as does the saved order, which is the daemon's.
pub fn remove(host: &dyn Host, directory: Option<&str>) -> Result<(), String> {
    let failed = |what: &str, why: String| format!("cannot remove the boot phases: {what}: {why}");
    let has_systemd = host.metadata(RUN_SYSTEMD).is_ok();
    let there = |path: &str| host.metadata(path).is_ok();
    let names: Vec<&str> = UNITS.iter().map(|(_, name)| *name).collect();
    let units: Vec<&str> =
        names.iter().copied().filter(|name| there(&format!("{DIRECTORY}/{name}"))).collect();
    if has_systemd && !units.is_empty() {
        // A phase that has ended does nothing any more; where systemd does not stop it, the next boot forgets it.
        let _ = systemctl(host, &[vec!["stop"], units.clone()].concat());
        let disable = [vec![ON_FILES, "disable"], units].concat();
        systemctl(host, &disable).map_err(|(what, why)| failed(&what, why))?;
    }
    let there = installed(host).map_err(|refusal| format!("cannot {refusal}"))?;
    let program = match (directory, there) {
        (Some(directory), _) => place(directory),
        (None, Some(there)) => there.program,
        (None, None) => place(DIRECTORIES[0]),
    };
    let links = names.iter().map(|name| format!("{WANTS}/{name}"));
    let files = names.iter().map(|name| format!("{DIRECTORY}/{name}"));
    for path in links.chain(files).chain([trial(&program), program]) {
        match host.remove(&path) {
            Ok(()) => tracing::info!("removed {path}"),
            Err(refusal) if refusal.errno == Errno::NOENT => {}
            Err(refusal) => return Err(failed(&path, refusal.reason())),
        }
    }
    if has_systemd {
        // A phase that had failed would be listed as failed until the next boot.
        for words in [vec!["daemon-reload"], [vec!["reset-failed"], names].concat()] {
            let _ = systemctl(host, &words);
        }
    }
    Ok(())
}

fn place(directory: &str) -> String {
    format!("{}/{PROGRAM}", directory.trim_end_matches('/'))
}

/// An error says which call it was, and why.
fn systemctl(host: &dyn Host, arguments: &[&str]) -> Result<(), (String, String)> {
    let output = host
        .run(&Program::Systemctl, arguments, b"")
        .map_err(|refusal| ("systemctl".to_owned(), refusal.reason()))?;
    if output.status == 0 {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err((format!("systemctl {}", arguments.join(" ")), said))
}

#[cfg(test)]
#[path = "boot_units_tests.rs"]
mod tests;
