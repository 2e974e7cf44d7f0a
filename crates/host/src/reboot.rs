//! Asking the host to reboot, as upstream does: a transient unit that stops the kubelet first, so that no pod is
//! started any more, and then reboots.

use crate::seam::{Host, Program, Refusal};
use thiserror::Error;

/// Upstream's unit name; a second request while the first is under way is refused by systemd because of it.
const UNIT: &str = "sriov-network-config-daemon-reboot";
const COMMAND: &str = "systemctl stop kubelet.service; reboot";

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RebootError {
    #[error("cannot reboot the host: {0}")]
    Refused(Refusal),
    #[error("cannot reboot the host: systemd-run ended with status {status}: {said}")]
    Failed { status: i32, said: String },
}

/// Asks for the reboot. It happens later, or never: only a new boot id is proof.
pub fn ask(host: &dyn Host, because: &str) -> Result<(), RebootError> {
    let description = format!("ironrail: {because}");
    let arguments = ["--unit", UNIT, "--description", &description, "/bin/sh", "-c", COMMAND];
    let output = host.run(&Program::SystemdRun, &arguments, b"").map_err(RebootError::Refused)?;
    if output.status == 0 {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(RebootError::Failed { status: output.status, said })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::Changed;
    use crate::sim::{Flavour, Machine, SimHost};
    use crate::testing::{self, worker};
    use api::Timestamp;
    use expect_test::expect;

    #[test]
    fn a_reboot_is_asked_for_as_upstream_does_and_the_machine_may_boot() {
        let host = SimHost::new(worker());
        let before = host.machine().boot_id.clone();
        ask(&host, "rdma mode exclusive").unwrap();
        expect!["run systemd-run --unit sriov-network-config-daemon-reboot --description ironrail: rdma mode exclusive /bin/sh -c systemctl stop kubelet.service; reboot"].assert_eq(&host.journal().join("\n"));
        assert!(!host.machine().unit_runs("kubelet.service"));
        assert!(host.machine().reboot_if_requested());
        assert_ne!(host.machine().boot_id, before);
        assert!(!host.machine().reboot_if_requested());
    }

    #[test]
    fn a_host_without_systemd_is_named() {
        let machine = Machine::small_worker("worker-0", Flavour::Immutable, Timestamp::UNIX_EPOCH);
        let out =
            testing::run(machine, |host| ask(host, "rdma mode exclusive").map(|()| Changed::Yes));
        expect![[r#"
            cannot reboot the host: run systemd-run --unit sriov-network-config-daemon-reboot --description ironrail: rdma mode exclusive /bin/sh -c systemctl stop kubelet.service; reboot: no such file or directory
                run systemd-run --unit sriov-network-config-daemon-reboot --description ironrail: rdma mode exclusive /bin/sh -c systemctl stop kubelet.service; reboot: no such file or directory
        "#]].assert_eq(&out);
    }
}
