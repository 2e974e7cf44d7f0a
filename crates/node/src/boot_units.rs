//! The boot phases as systemd units on a host: installed, looked for, and taken away.
//!
//! What a phase does is in `boot`. Nothing that was there before is changed, and nothing is renamed in from another
//! directory.

use api::files::{ORDER, RUN_SYSTEMD};
use api::names;
use host::mounts::{self, Keeps};
use host::seam::{Errno, Program};
use host::{Host, Refusal};

const DIRECTORY: &str = "/etc/systemd/system";
const WANTS: &str = "/etc/systemd/system/multi-user.target.wants";
const PROGRAM: &str = "ironrail-node";
/// Each unit's phase and name.
const UNITS: [(&str, &str); 2] =
    [("pre", "ironrail-boot-pre.service"), ("post", "ironrail-boot-post.service")];
/// What starts containers: the runtimes, the kubelet, and the distributions of Kubernetes that bring a runtime of their
/// own. systemd does not mind the names of units that a host has not.
const RUNTIMES: &str = "containerd.service crio.service kubelet.service k3s.service k3s-agent.service rke2-server.service rke2-agent.service";

/// `systemctl` changes the links itself then, and does not ask systemd to: where SELinux is enforced, a policy may keep a
/// container from that, as privileged as it is (Debian's does), and not from the files.
const ON_FILES: &str = "--root=/";

/// True when systemd starts the first phase at boot: `systemctl enable` has linked it.
pub fn is_installed(host: &dyn Host) -> Result<bool, Refusal> {
    let [(_, first), _] = UNITS;
    match host.list(WANTS) {
        Ok(names) => Ok(names.iter().any(|one| one == first)),
        Err(refusal) if refusal.errno == Errno::NOENT => Ok(false),
        Err(refusal) => Err(refusal),
    }
}

/// A phase may be killed at any instant, so systemd need not ask it to end: `KillSignal`.
fn unit(phase: &str, program: &str) -> String {
    let order = match phase {
        // Early, and by itself: before whatever configures the network, and so before `basic.target`. What systemd adds
        // by default would put it after that; of this it keeps that a shutdown ends it.
        "pre" => format!(
            "DefaultDependencies=no\nConflicts=shutdown.target\nAfter=local-fs.target systemd-modules-load.service systemd-udev-settle.service\nWants=systemd-udev-settle.service network-pre.target\nBefore=network-pre.target shutdown.target {RUNTIMES}"
        ),
        _ => format!("After=network.target ironrail-boot-pre.service\nBefore={RUNTIMES}"),
    };
    format!(
        "# Written by {daemon}; it is written anew when it differs.\n[Unit]\nDescription=ironrail: RDMA mode and virtual functions ({phase})\nConditionPathExists={ORDER}\n{order}\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\nEnvironment=HOST_ROOT=/\nExecStart={program} boot {phase}\nTimeoutStartSec=300\nKillSignal=SIGKILL\n\n[Install]\nWantedBy=multi-user.target\n",
        daemon = names::DAEMON
    )
}

/// Installs program and units. The program is made in its directory, never renamed in from another, so that it gets the
/// type that SELinux gives to programs there, and systemd may run it.
pub fn install(host: &dyn Host, directory: &str, binary: &[u8]) -> Result<(), String> {
    if host.metadata(RUN_SYSTEMD).is_err() {
        return Err(format!(
            "cannot install the boot phases: this host has no systemd ({RUN_SYSTEMD} is not there); without them the daemon sets mode and VFs after the container runtime has started"
        ));
    }
    if mounts::keeps(host, DIRECTORY) == Keeps::UntilReboot {
        return Err(format!(
            "cannot install the boot phases: {DIRECTORY} of this host is in memory and gone at its next boot; without them the daemon sets mode and VFs after the container runtime has started"
        ));
    }
    let program = place(directory);
    let failed = |what: &str, why: String| format!("cannot install the boot phases: {what}: {why}");
    host.replace(&program, binary, 0o755).map_err(|refusal| {
        failed(
            &program,
            format!(
                "{}; give a directory for programs that this host can write, with --to",
                refusal.reason()
            ),
        )
    })?;
    for (phase, name) in UNITS {
        let path = format!("{DIRECTORY}/{name}");
        host.replace(&path, unit(phase, &program).as_bytes(), 0o644)
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

/// Takes away what `install` has made, also where only a part of it is there. The units' state goes with them; what they
/// did to the host stays, as does the saved order, which is the daemon's.
pub fn remove(host: &dyn Host, directory: &str) -> Result<(), String> {
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
    let links = names.iter().map(|name| format!("{WANTS}/{name}"));
    let files = names.iter().map(|name| format!("{DIRECTORY}/{name}"));
    for path in links.chain(files).chain([place(directory)]) {
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
