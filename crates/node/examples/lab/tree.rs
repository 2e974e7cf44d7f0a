//! The machine's files: what there is, and what one boot writes down for another.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const NOTES: &str = "/var/lib/lab";

pub fn note(name: &str, text: &str) {
    std::fs::create_dir_all(NOTES).unwrap();
    std::fs::write(format!("{NOTES}/{name}"), text).unwrap();
}

pub fn noted(name: &str) -> String {
    std::fs::read_to_string(format!("{NOTES}/{name}")).unwrap()
}

/// Every path below these directories, but not what is mounted there.
pub fn paths(directories: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = directories.iter().map(PathBuf::from).collect();
    while let Some(path) = waiting.pop() {
        if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            waiting.extend(entries.map(|entry| entry.path()));
        }
        found.push(path);
    }
    found.sort();
    found
}

/// Every path below `/etc` and `/usr`, a line each; without what is remembered of the cards, which is the order's.
pub fn listed() -> String {
    let paths = paths(&["/etc", "/usr"]);
    let paths = paths.iter().filter(|path| !path.starts_with("/etc/sriov-operator"));
    paths.map(|path| path.display().to_string()).collect::<Vec<_>>().join("\n")
}

/// Lines that only one of the two has.
pub fn differences(before: &str, after: &str) -> String {
    let lines = |text| str::lines(text).collect::<BTreeSet<&str>>();
    let (before, after) = (lines(before), lines(after));
    before.symmetric_difference(&after).copied().collect::<Vec<_>>().join("\n")
}

/// SELinux's label of a path itself.
pub fn context(path: &Path) -> String {
    let mut label = vec![0; 256];
    let length = rustix::fs::lgetxattr(path, c"security.selinux", &mut label).unwrap_or(0);
    label.truncate(length);
    String::from_utf8_lossy(&label).trim_end_matches('\0').to_owned()
}
