//! The RDMA mode of a host: what is effective now, the live switch, and the `modprobe.d` file that the next boot reads.
//!
//! The kernel argument is `kernel_argument`'s. Which of them to use is the planner's.

use crate::function::optional;
use crate::mounts::{self, Keeps};
use crate::processes;
use crate::seam::{Changed, Host, Namespace, RdmaChange, Refusal};
use api::{RdmaMode, files};
use rustix::io::Errno;
use std::collections::BTreeSet;
use thiserror::Error;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RdmaModeError {
    #[error("cannot set RDMA mode {wanted}: the RDMA subsystem (ib_core) is not loaded")]
    NoSubsystem { wanted: RdmaMode },
    #[error(
        "cannot switch to RDMA mode {wanted} now: {others} other network namespaces exist; a reboot is needed"
    )]
    OtherNamespaces { wanted: RdmaMode, others: u32 },
    #[error("cannot switch to RDMA mode {wanted} now: {refusal}")]
    Refused { wanted: RdmaMode, refusal: Refusal },
    #[error("the RDMA mode is {found} after {wanted} was set")]
    NotTaken { wanted: RdmaMode, found: RdmaMode },
    #[error("cannot write the option for RDMA mode {wanted}: {refusal}")]
    OptionRefused { wanted: RdmaMode, refusal: Refusal },
    #[error("cannot remove the option of the RDMA mode: {0}")]
    OptionStays(Refusal),
    #[error("cannot {0}")]
    Unreadable(Refusal),
}

/// The effective mode, from the kernel; none while the subsystem is not loaded or older than 5.3.
pub fn effective(host: &dyn Host) -> Result<Option<RdmaMode>, Refusal> {
    match host.rdma_mode() {
        Ok(mode) => Ok(Some(mode)),
        Err(refusal)
            if [Errno::NOENT, Errno::PROTONOSUPPORT, Errno::OPNOTSUPP, Errno::INVAL]
                .contains(&refusal.errno) =>
        {
            Ok(None)
        }
        Err(refusal) => Err(refusal),
    }
}

/// How many network namespaces there are besides the host's, as far as paths and processes show them. One that only an
/// open file holds is not seen; the kernel refuses the switch for it too.
pub fn other_namespaces(host: &dyn Host) -> Result<u32, Refusal> {
    let identity = |path: &str| host.metadata(path).ok().map(|found| (found.device, found.inode));
    let own = host.metadata("/proc/1/ns/net")?;
    let mut seen = BTreeSet::from([(own.device, own.inode)]);
    for name in optional(host.list("/var/run/netns"))?.unwrap_or_default() {
        seen.extend(identity(&format!("/var/run/netns/{name}")));
    }
    seen.extend(processes::directories(host)?.filter_map(|one| identity(&format!("{one}/ns/net"))));
    Ok(u32::try_from(seen.len()).unwrap_or(u32::MAX) - 1)
}

/// Switches the mode at once. The kernel refuses while another network namespace exists.
pub fn switch(host: &dyn Host, wanted: RdmaMode) -> Result<Changed, RdmaModeError> {
    let read = || {
        effective(host)
            .map_err(RdmaModeError::Unreadable)?
            .ok_or(RdmaModeError::NoSubsystem { wanted })
    };
    if read()? == wanted {
        return Ok(Changed::AlreadyRight);
    }
    let switched = host.change_rdma(&Namespace::Host, &RdmaChange::Mode(wanted));
    if let Err(refusal) = switched {
        let others = other_namespaces(host).map_err(RdmaModeError::Unreadable)?;
        return Err(match refusal.errno {
            Errno::BUSY if others > 0 => RdmaModeError::OtherNamespaces { wanted, others },
            _ => RdmaModeError::Refused { wanted, refusal },
        });
    }
    match read()? {
        found if found == wanted => Ok(Changed::Yes),
        found => Err(RdmaModeError::NotTaken { wanted, found }),
    }
}

/// The file of `modprobe.d` that counts: ours, or the one that a driver container mounts.
pub fn option_file(in_container: bool) -> &'static str {
    if in_container { files::MODPROBE_OF_CONTAINER } else { files::MODPROBE }
}

/// True when `ib_core` comes from a driver container: NVIDIA's shows its root below `/run/mellanox/drivers`, and of any
/// the module is built out of tree while the host's own is the kernel's.
pub fn in_driver_container(host: &dyn Host) -> bool {
    let text = |path: &str| {
        String::from_utf8_lossy(&host.read(path).unwrap_or_default()).trim().to_owned()
    };
    let mounts = text("/proc/1/mounts");
    let mounted = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    if mounted.into_iter().any(|directory| directory == DRIVER_ROOT) {
        return true;
    }
    // The taint O: built outside of the kernel's tree.
    if !text("/sys/module/ib_core/taint").contains('O') {
        return false;
    }
    let modules = text(&format!("/lib/modules/{}/modules.dep", text("/proc/sys/kernel/osrelease")));
    let files = modules.lines().filter_map(|line| line.split(':').next());
    let own =
        files.filter(|file| file.rsplit('/').next().is_some_and(|n| n.starts_with("ib_core.ko")));
    own.into_iter().any(|file| file.starts_with("kernel/"))
}

const DRIVER_ROOT: &str = "/run/mellanox/drivers";

/// True when the file is ours or upstream's to write: it has the header line, or is not there.
pub fn option_is_ours(host: &dyn Host, in_container: bool) -> Result<bool, Refusal> {
    let text = optional(host.read(option_file(in_container)))?;
    Ok(text.is_none_or(|text| has_header(&text)))
}

/// True when the text begins with upstream's header line.
pub fn has_header(text: &[u8]) -> bool {
    text.starts_with(files::MODPROBE_HEADER.as_bytes())
}

/// Writes our `modprobe.d` file: upstream's name, or the driver container's, and upstream's two lines.
pub fn set_option(
    host: &dyn Host,
    wanted: RdmaMode,
    in_container: bool,
) -> Result<Changed, RdmaModeError> {
    let file = option_file(in_container);
    let refused = |refusal| RdmaModeError::OptionRefused { wanted, refusal };
    let text =
        format!("{}\noptions ib_core netns_mode={}\n", files::MODPROBE_HEADER, parameter(wanted));
    if optional(host.read(file)).map_err(refused)?.as_deref() == Some(text.as_bytes()) {
        return Ok(Changed::AlreadyRight);
    }
    host.replace(file, text.as_bytes(), 0o644).map_err(refused)?;
    Ok(Changed::Yes)
}

/// Removes our files. The driver container's is an administrator's where it has not our header line.
pub fn remove_option(host: &dyn Host) -> Result<Changed, RdmaModeError> {
    let mut changed = Changed::AlreadyRight;
    for file in [files::MODPROBE, files::MODPROBE_OF_CONTAINER] {
        let text = optional(host.read(file)).map_err(RdmaModeError::OptionStays)?;
        if text.is_some_and(|text| file == files::MODPROBE || has_header(&text)) {
            host.remove(file).map_err(RdmaModeError::OptionStays)?;
            changed = Changed::Yes;
        }
    }
    Ok(changed)
}

/// True when `modprobe.d` can be written, and what is written there is read at the next boot.
pub fn option_writable(host: &dyn Host) -> bool {
    mounts::keeps(host, MODPROBE_DIRECTORY) == Keeps::Yes
}

const MODPROBE_DIRECTORY: &str = "/etc/modprobe.d";

/// The value of ib_core's `netns_mode`: 0 is exclusive, the opposite of what one guesses.
pub(crate) fn parameter(mode: RdmaMode) -> u8 {
    match mode {
        RdmaMode::Shared => 1,
        RdmaMode::Exclusive => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Fault, Flavour, Machine, SimHost};
    use crate::testing::{self, worker};
    use api::Timestamp;
    use expect_test::expect;

    #[test]
    fn the_switch_is_live_only_while_the_hosts_namespace_is_alone() {
        let exclusive = |host: &dyn Host| switch(host, RdmaMode::Exclusive);
        let mut out = testing::run_twice(worker(), exclusive);
        let mut machine = worker();
        machine.create_namespace("/var/run/netns/a").unwrap();
        machine.start_process("sleep", Some("/var/run/netns/a")).unwrap();
        machine.start_process_in_new_namespace("unshare");
        out.push_str(&testing::run(machine, exclusive));
        out.push_str(&testing::run(worker().with(Fault::RefusesRdmaMode), exclusive));
        let mut plain = Machine::new("worker-1", Flavour::Rhel, Timestamp::UNIX_EPOCH);
        plain.add_82576(7, 0);
        plain.boot();
        out.push_str(&testing::run(plain, exclusive));
        expect![[r#"
            Yes
                rdma mode <- exclusive
            AlreadyRight
            cannot switch to RDMA mode exclusive now: 2 other network namespaces exist; a reboot is needed
                rdma mode <- exclusive: device or resource busy
            cannot switch to RDMA mode exclusive now: set rdma mode exclusive from the host's namespace: device or resource busy
                rdma mode <- exclusive: device or resource busy
            cannot set RDMA mode exclusive: the RDMA subsystem (ib_core) is not loaded
        "#]].assert_eq(&out);
    }

    #[test]
    fn the_option_file_is_upstreams_and_goes_without_a_trace() {
        let mut out =
            testing::run_twice(worker(), |host| set_option(host, RdmaMode::Exclusive, false));
        let mut machine = worker();
        machine.files.insert(files::MODPROBE.to_owned(), b"anything".to_vec());
        out.push_str(&testing::run_twice(machine, remove_option));
        out.push_str(&testing::run(worker().with(Fault::ReadOnlyEtc), |host| {
            set_option(host, RdmaMode::Shared, false)
        }));
        expect![[r#"
            Yes
                replace /etc/modprobe.d/sriov_network_operator_modules_config.conf: # This file is managed by sriov-network-operator do not edit. | options ib_core netns_mode=0
            AlreadyRight
            Yes
                remove /etc/modprobe.d/sriov_network_operator_modules_config.conf
            AlreadyRight
            cannot write the option for RDMA mode shared: replace /etc/modprobe.d/sriov_network_operator_modules_config.conf: read-only file system
                replace /etc/modprobe.d/sriov_network_operator_modules_config.conf: # This file is managed by sriov-network-operator do not edit. | options ib_core netns_mode=1: read-only file system
        "#]].assert_eq(&out);
    }

    #[test]
    fn the_option_is_what_the_next_boot_reads() {
        let host = SimHost::new(worker());
        set_option(&host, RdmaMode::Exclusive, false).unwrap();
        assert_eq!(effective(&host).unwrap(), Some(RdmaMode::Shared));
        host.machine().boot();
        assert_eq!(effective(&host).unwrap(), Some(RdmaMode::Exclusive));
    }

    #[test]
    fn a_driver_container_reads_one_file_and_an_administrators_stays() {
        let host = SimHost::new(worker().with(Fault::DriverContainer));
        assert!(in_driver_container(&host) && !in_driver_container(&SimHost::new(worker())));
        set_option(&host, RdmaMode::Exclusive, false).unwrap();
        host.machine().boot();
        assert_eq!(effective(&host).unwrap(), Some(RdmaMode::Shared));
        set_option(&host, RdmaMode::Exclusive, true).unwrap();
        host.machine().boot();
        assert_eq!(effective(&host).unwrap(), Some(RdmaMode::Exclusive));
        assert_eq!(remove_option(&host).unwrap(), Changed::Yes);
        assert!(host.read(files::MODPROBE_OF_CONTAINER).is_err());
        host.replace(files::MODPROBE_OF_CONTAINER, b"options ib_core netns_mode=0\n", 0o644)
            .unwrap();
        assert!(!option_is_ours(&host, true).unwrap());
        assert_eq!(remove_option(&host).unwrap(), Changed::AlreadyRight);
    }

    #[test]
    fn a_read_only_etc_is_seen_before_anything_is_written() {
        assert!(option_writable(&SimHost::new(worker())));
        assert!(!option_writable(&SimHost::new(worker().with(Fault::ReadOnlyEtc))));
    }

    #[test]
    fn from_every_crash_the_next_run_reaches_the_goal() {
        testing::crash_everywhere(worker(), |host| switch(host, RdmaMode::Exclusive));
        testing::crash_everywhere(worker(), |host| set_option(host, RdmaMode::Exclusive, false));
    }
}
