//! The lab's cases about SELinux, with the distribution's policy, enforced.

use super::cards::{Cards, read};
use super::report::{Outcome, equal};
use super::systemd::{PRE, ours, said, show, systemctl};
use super::tree;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CONTEXTS: &str = "/etc/selinux/default/contexts/files/file_contexts";
const PROGRAM: &str = "/usr/local/bin/ironrail-node";
/// How long a phase may take here.
const LONGEST: Duration = Duration::from_secs(120);

/// By the policy's list, on the disk itself and not on what is mounted over it.
pub fn label() -> Outcome {
    said("mount", &["--bind", "/", "/mnt"])?;
    said("setfiles", &["-F", "-r", "/mnt", CONTEXTS, "/mnt"])?;
    // As a runtime labels the files of a container.
    said("chcon", &["-R", "-t", "container_file_t", "/mnt/image"])?;
    said("umount", &["/mnt"])?;
    Ok(format!("{PROGRAM} would be {}", expected(Path::new(PROGRAM))?))
}

fn labels() -> BTreeMap<PathBuf, String> {
    let paths = tree::paths(&["/etc", "/usr", "/var", "/opt"]).into_iter();
    paths.map(|path| (path.clone(), tree::context(&path))).collect()
}

/// What the policy's list says of a path.
fn expected(path: &Path) -> Result<String, String> {
    Ok(said("matchpathcon", &["-n", &path.display().to_string()])?.trim().to_owned())
}

/// The type in `user:role:type:level`.
fn kind(label: &str) -> String {
    label.split(':').nth(2).unwrap_or_default().to_owned()
}

/// Installed by a container, as on a host where it was never before.
pub fn installed(cards: &Cards) -> Outcome {
    equal("getenforce", said("getenforce", &[])?.trim(), "Enforcing")?;
    let before = labels();
    ours(&["install-boot"])?;
    cards.save_order()?;
    let mut told = Vec::new();
    for (path, label) in labels() {
        let name = path.display().to_string();
        match before.get(&path) {
            Some(known) => equal(&format!("label of {name}"), &label, known)?,
            None => {
                let directory = kind(&tree::context(path.parent().unwrap()));
                equal(&format!("type of {name}"), kind(&label), directory)?;
                told.push(format!("{name} is {}", kind(&label)));
            }
        }
    }
    let program = kind(&tree::context(Path::new(PROGRAM)));
    equal("type of the program", program, kind(&expected(Path::new(PROGRAM))?))?;
    Ok(format!("{}; {} labels are as before", told.join(", "), before.len()))
}

/// systemd starts it, and what it does is not denied. Of the install one thing was, which it can do without, and says so:
/// a container may not ask systemd to read its units again.
pub fn started(cards: &Cards) -> Outcome {
    let domains = watched()?;
    cards.at_goal()?;
    let log = said("dmesg", &[])?;
    let denied = log.lines().filter(|line| line.contains("avc:") && line.contains("denied"));
    let (ours, others): (Vec<&str>, Vec<&str>) = denied
        .partition(|line| ["ironrail", "lab-boot", "spc_t"].iter().any(|word| line.contains(word)));
    let (reloads, ours): (Vec<&str>, Vec<&str>) =
        ours.into_iter().partition(|line| line.contains("{ reload }") && line.contains("spc_t"));
    equal("denials", ours.join("\n").as_str(), "")?;
    Ok(format!(
        "mode and VFs are there; it ran as {}; of {} denials of this boot {} are ours: the container's reload of systemd",
        domains.into_iter().collect::<Vec<_>>().join(", "),
        others.len() + reloads.len(),
        reloads.len()
    ))
}

/// What a person installed, a person removes.
pub fn removed() -> Outcome {
    ours(&["remove-boot"])?;
    let found = tree::listed();
    let left: Vec<&str> = found.lines().filter(|line| line.contains("ironrail")).collect();
    equal("files", left.join("\n").as_str(), "")?;
    Ok("no path below /etc and /usr has our name".to_owned())
}

/// The domains of the boot phase while it runs.
fn watched() -> Result<BTreeSet<String>, String> {
    // A container may not ask for that here, and no boot has been since the install.
    systemctl(&["daemon-reload"])?;
    systemctl(&["start", "--no-block", PRE])?;
    let mut domains = BTreeSet::new();
    let begun = Instant::now();
    loop {
        let state = show(PRE, "ActiveState")?;
        let process = show(PRE, "MainPID")?;
        let label = read(&format!("/proc/{process}/attr/current"));
        let program = std::fs::read_link(format!("/proc/{process}/exe")).unwrap_or_default();
        if program == Path::new(PROGRAM) {
            domains.insert(kind(label.trim_end_matches('\0')));
        }
        match state.as_str() {
            // Its job may not have begun yet.
            "inactive" | "activating" if begun.elapsed() < LONGEST => {}
            "active" if !domains.is_empty() => return Ok(domains),
            other => return Err(format!("{PRE} is {other}, and ran as {domains:?}")),
        }
    }
}
