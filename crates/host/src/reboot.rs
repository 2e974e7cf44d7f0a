//! Asking the host to reboot, as upstream does: a transient unit that stops the kubelet first, so that no pod is
//! started any more, and then reboots.

use crate::seam::{Host, Program, Refusal};
use thiserror::Error;

/// Upstream's unit name; a second request while the first is under way is refused by systemd because of it.
const UNIT: &str = "sriov-network-config-daemon-reboot";
/// A `reboot` that is refused, or that never comes, must not leave the node without its kubelet: only the kubelet starts a
/// daemon again that has died meanwhile. The unit itself starts it, before the next attempt needs its name. A shutdown ends
/// the unit (systemd.service(5): units conflict with `shutdown.target`), so that nothing starts on the way down.
const COMMAND: &str =
    "systemctl stop kubelet.service; reboot && sleep 100; systemctl start kubelet.service";
const KUBELET: &str = "kubelet.service";

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RebootError {
    #[error("cannot reboot the host: {0}")]
    Refused(Refusal),
    #[error("cannot reboot the host: systemd-run ended with status {status}: {said}")]
    Failed { status: i32, said: String },
    #[error(
        "cannot start the kubelet again, which a reboot that never came has stopped: {said}; start {KUBELET} by hand"
    )]
    KubeletStays { said: String },
}

/// Asks for the reboot. It happens later, or never: only a new boot id is proof.
pub fn ask(host: &dyn Host, because: &str) -> Result<(), RebootError> {
    let description = format!("ironrail: {because}");
    // A unit that failed keeps its name until somebody resets it, and the next attempt would be refused; `--collect` lets
    // it go (systemd-run(1)).
    let arguments =
        ["--collect", "--unit", UNIT, "--description", &description, "/bin/sh", "-c", COMMAND];
    let output = host.run(&Program::SystemdRun, &arguments, b"").map_err(RebootError::Refused)?;
    if output.status == 0 {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(RebootError::Failed { status: output.status, said })
}

/// Starts the kubelet that a reboot stopped; the reboot never came.
pub fn start_kubelet(host: &dyn Host) -> Result<(), RebootError> {
    let stays = |said: String| RebootError::KubeletStays { said };
    let output = host
        .run(&Program::Systemctl, &["start", KUBELET], b"")
        .map_err(|refusal| stays(refusal.to_string()))?;
    match output.status {
        0 => Ok(()),
        _ => Err(stays(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::Changed;
    use crate::sim::{Fault, Flavour, Machine, SimHost};
    use crate::testing::{self, worker};
    use api::Timestamp;
    use expect_test::expect;
    use std::time::Duration;

    #[test]
    fn a_reboot_is_asked_for_as_upstream_does_and_the_machine_may_boot() {
        let host = SimHost::new(worker());
        let before = host.machine().boot_id.clone();
        ask(&host, "rdma mode exclusive").unwrap();
        expect!["run systemd-run --collect --unit sriov-network-config-daemon-reboot --description ironrail: rdma mode exclusive /bin/sh -c systemctl stop kubelet.service; reboot && sleep 100; systemctl start kubelet.service"].assert_eq(&host.journal().join("\n"));
        assert!(!host.machine().unit_runs("kubelet.service"));
        assert!(host.machine().reboot_if_requested());
        assert_ne!(host.machine().boot_id, before);
        assert!(!host.machine().reboot_if_requested());
    }

    #[test]
    fn a_reboot_that_is_refused_or_never_comes_leaves_no_node_without_its_kubelet() {
        let host = SimHost::new(worker().with(Fault::RefusesReboot));
        ask(&host, "rdma mode exclusive").unwrap();
        assert!(host.machine().unit_runs(KUBELET));
        assert!(!host.machine().reboot_if_requested());
        let host = SimHost::new(worker().with(Fault::IgnoresReboot));
        ask(&host, "rdma mode exclusive").unwrap();
        assert!(!host.machine().unit_runs(KUBELET));
        start_kubelet(&host).unwrap();
        assert!(host.machine().unit_runs(KUBELET));
    }

    #[test]
    fn the_unit_starts_the_kubelet_again_where_nobody_is_left_to_do_it() {
        let host = SimHost::new(worker().with(Fault::IgnoresReboot));
        ask(&host, "rdma mode exclusive").unwrap();
        host.machine().advance(Duration::from_secs(99));
        assert!(!host.machine().unit_runs(KUBELET));
        host.machine().advance(Duration::from_secs(1));
        assert!(host.machine().unit_runs(KUBELET));
    }

    #[test]
    fn a_host_without_systemd_is_named() {
        let machine = Machine::small_worker("worker-0", Flavour::Immutable, Timestamp::UNIX_EPOCH);
        let out =
            testing::run(machine, |host| ask(host, "rdma mode exclusive").map(|()| Changed::Yes));
        expect![[r#"
            cannot reboot the host: run systemd-run --collect --unit sriov-network-config-daemon-reboot --description ironrail: rdma mode exclusive /bin/sh -c systemctl stop kubelet.service; reboot && sleep 100; systemctl start kubelet.service: no such file or directory
                run systemd-run --collect --unit sriov-network-config-daemon-reboot --description ironrail: rdma mode exclusive /bin/sh -c systemctl stop kubelet.service; reboot && sleep 100; systemctl start kubelet.service: no such file or directory
        "#]].assert_eq(&out);
    }
}
