//! Multus thick: its daemon runs in a pod, starts plugins chrooted into the host's root, and they die with the pod.
//!
//! As in multus-cni: `pkg/server/exec_chroot.go` makes /hostroot the plugin's root, and `multus-daemonset-thick.yml` mounts
//! the host's root there with everything below it (`HostToContainer`), shares the host's processes and network, and limits
//! the memory.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

const CGROUPS: &str = "/sys/fs/cgroup";
const BUSYBOX: &str = "/usr/bin/busybox";
/// A mount namespace with the host's root in it, in the pod's cgroup; the plugin is the same process in the end.
const SCRIPT: &str = "echo $$ > $0/cgroup.procs && exec /usr/bin/busybox unshare -m /usr/bin/busybox sh -c '\
    busybox=/usr/bin/busybox; $busybox mount -o rbind / /hostroot && $busybox mount --make-rslave /hostroot && \
    exec $busybox chroot /hostroot '$1";
/// The limit that Multus' manifest has.
const LIMIT: &str = "52428800";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// How the pod ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// The kubelet kills its container: every process of the cgroup gets SIGKILL.
    Killed,
    /// The daemon has taken all memory that it may, and the kernel ends the whole cgroup.
    OutOfMemory,
}

/// The daemon's pod: a cgroup with a limit, ended as a whole.
#[derive(PartialEq)]
pub struct Daemon {
    cgroup: String,
}

impl Daemon {
    pub fn start() -> Self {
        if !std::fs::exists(format!("{CGROUPS}/cgroup.procs")).unwrap() {
            let words = ["mount", "-t", "cgroup2", "cgroup2", CGROUPS];
            assert!(Command::new(BUSYBOX).args(words).status().unwrap().success());
        }
        std::fs::write(format!("{CGROUPS}/cgroup.subtree_control"), "+memory").unwrap();
        std::fs::create_dir_all("/hostroot").unwrap();
        let cgroup = format!("{CGROUPS}/multus-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        std::fs::create_dir(&cgroup).unwrap();
        let daemon = Self { cgroup };
        daemon.set("memory.oom.group", "1");
        daemon.set("memory.max", LIMIT);
        daemon
    }

    fn set(&self, file: &str, value: &str) {
        std::fs::write(format!("{}/{file}", self.cgroup), value).unwrap();
    }

    /// A plugin as the daemon starts it.
    pub fn command(&self, plugin: &str) -> Command {
        let mut command = Command::new(BUSYBOX);
        command.args(["sh", "-c", SCRIPT, &self.cgroup, plugin]);
        command
    }

    /// Ends the pod with all that runs in it, and answers how often its memory was the cause.
    pub fn end(&self, how: End) -> u64 {
        match how {
            End::Killed => self.set("cgroup.kill", "1"),
            // What is in use is over the new limit at once, as it is when the daemon takes the rest.
            End::OutOfMemory => drop(std::fs::write(format!("{}/memory.max", self.cgroup), "0")),
        }
        let events = std::fs::read_to_string(format!("{}/memory.events", self.cgroup)).unwrap();
        let count = events.lines().find_map(|line| line.strip_prefix("oom_group_kill "));
        count.and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Refused while a dead process is still on its way out; an empty one that stays is no harm.
        let _ = std::fs::remove_dir(&self.cgroup);
    }
}
