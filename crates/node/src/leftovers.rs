//! Files that a process left when it was killed while it replaced them: the daemon takes them away once after its start.
//!
//! A live writer needs an instant between writing and renaming. What is there at two looks, two minutes apart, under the
//! same name has none any more; should it have one on a very slow disk, its rename is refused and it tries again. The CNI
//! journal is the sweeper's, and the directory of the CNI plugins is tidied by `install-cni`.

use crate::give::DEVICE_INFO;
use api::{Timestamp, files};
use host::{Host, leftovers};
use std::collections::BTreeSet;
use std::time::Duration;

/// Between the two looks.
const APART: Duration = Duration::from_secs(120);

/// The directories in which daemon, device plugin and CNI plugins replace files.
const DIRECTORIES: [&str; 8] = [
    files::RUN,
    files::STATE,
    files::CDI,
    DEVICE_INFO,
    files::ALLOCATIONS,
    files::PF_STORE,
    "/etc/modprobe.d",
    "/etc/systemd/system",
];

/// What was there at the first look.
#[derive(Debug)]
pub struct Leftovers {
    seen: BTreeSet<String>,
    since: Timestamp,
}

impl Leftovers {
    pub fn look(host: &dyn Host) -> Self {
        Self { seen: look(host), since: host.now() }
    }

    /// Removes what is there still, once it is time; then there is nothing left to remember.
    pub fn remove_when_due(&mut self, host: &dyn Host) {
        let waited = host.now().duration_since(self.since);
        if self.seen.is_empty() || waited.unsigned_abs() < APART {
            return;
        }
        let seen = std::mem::take(&mut self.seen);
        for path in look(host).intersection(&seen) {
            match host.remove(path) {
                Ok(()) => tracing::info!("removed {path}, which a killed process left behind"),
                Err(refusal) => tracing::warn!("cannot {refusal}"),
            }
        }
    }
}

/// What is unfinished now, as paths. A directory that cannot be read is left as it is.
fn look(host: &dyn Host) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for directory in DIRECTORIES {
        match leftovers::of(host, directory) {
            Ok(paths) => found.extend(paths),
            Err(refusal) => tracing::debug!("cannot {refusal}"),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::linux::LinuxHost;

    #[test]
    fn what_is_there_at_both_looks_goes_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let host = LinuxHost::new(directory.path().to_str().unwrap()).unwrap();
        let put = |path: &str| host.replace(path, b"x", 0o600).unwrap();
        let dead = [
            "/run/ironrail/.offer.json.1.0.new",
            "/var/lib/ironrail/.order.json.1.4.new",
            "/var/run/cdi/.ironrail.dev-vf-0000:3b:00.2.json.77.0.new",
            "/etc/modprobe.d/.sriov_network_operator_modules_config.conf.1.0.new",
        ];
        let others = [
            "/run/ironrail/offer.json",
            "/etc/modprobe.d/.mlx5.conf.new",
            "/var/run/cdi/vendor.json",
        ];
        dead.iter().chain(&others).for_each(|path| put(path));
        let mut leftovers = Leftovers::look(&host);
        assert_eq!(leftovers.seen, dead.map(str::to_owned).into());
        let alive = "/run/ironrail/.claims.json.9.3.new";
        put(alive);
        leftovers.remove_when_due(&host);
        assert_eq!(look(&host).len(), dead.len() + 1, "too early");
        leftovers.since -= APART;
        leftovers.remove_when_due(&host);
        assert_eq!(look(&host), [alive.to_owned()].into());
        leftovers.remove_when_due(&host);
        assert_eq!(look(&host), [alive.to_owned()].into());
        others.iter().for_each(|path| assert!(host.read(path).is_ok(), "{path}"));
    }
}
