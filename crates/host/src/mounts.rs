//! Whether what is written into a directory is still there after a reboot, by the mounts of process 1.
//!
//! It only reads the table; that a write then succeeds is another question.

use crate::Host;

/// What becomes of a file that is written into a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    Yes,
    /// It cannot be written.
    ReadOnly,
    /// It is in memory: systems with a verified root have such an `/etc`, made anew at each boot (Bottlerocket).
    UntilReboot,
}

const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];

/// What the mount that covers the directory does. Without a table nothing is known, and nothing is written.
pub fn keeps(host: &dyn Host, directory: &str) -> Keeps {
    let mounts = host.read("/proc/1/mounts").unwrap_or_default();
    by_table(&String::from_utf8_lossy(&mounts), directory)
}

/// The mount that covers a directory is the longest, the latest of equals.
fn by_table(mounts: &str, directory: &str) -> Keeps {
    // Device, directory, type, options.
    let covering = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (at, kind, options) = (words.next()?, words.next()?, words.next()?);
        let inside = at == "/" || format!("{directory}/").starts_with(&format!("{at}/"));
        inside.then_some((at.len(), kind, options))
    });
    match covering.max_by_key(|(length, ..)| *length) {
        Some((_, kind, _)) if IN_MEMORY.contains(&kind) => Keeps::UntilReboot,
        Some((_, _, options)) if options.split(',').any(|option| option == "rw") => Keeps::Yes,
        _ => Keeps::ReadOnly,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_nearest_to_a_directory_tells_what_becomes_of_its_files() {
        let mounts = "/dev/dm-0 / ext4 ro,relatime 0 0\n\
                      tmpfs /etc tmpfs rw,nosuid 0 0\n\
                      /dev/sda3 /local ext4 rw 0 0\n\
                      /dev/sda3 /opt ext4 ro 0 0\n\
                      /dev/sda3 /opt ext4 rw 0 0\n";
        let kept = ["/usr/bin", "/etc/modprobe.d", "/local", "/locale", "/opt/cni/bin"];
        let kept = kept.map(|directory| format!("{directory} {:?}", by_table(mounts, directory)));
        assert_eq!(
            kept.join(", "),
            "/usr/bin ReadOnly, /etc/modprobe.d UntilReboot, /local Yes, /locale ReadOnly, /opt/cni/bin Yes"
        );
        assert_eq!(by_table("", "/etc"), Keeps::ReadOnly);
        assert_eq!(by_table("garbage\n\n/ / /", "/etc"), Keeps::ReadOnly);
    }
}
