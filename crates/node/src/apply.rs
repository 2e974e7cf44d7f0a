//! One match: an action of the plan to the operation of `host` that does it. Nothing is chosen here.
//!
//! Each VF that a step touches is locked meanwhile, so that the CNI neither attaches nor detaches it under our hands.

use crate::failures::{Failed as FailedLanes, Why};
use crate::{boot, ledger};
use api::nodestate::Interface;
use api::{PciAddress, files};
use host::kernel_argument::{self, Tool};
use host::lockdown::Denied;
use host::seam::{Errno, Lock};
use host::{
    Host, Refusal, autoprobe, device_lock, driver_bind, eswitch, facilities, firmware, function,
    link, lockdown, rdma_mode, rdma_reload, reboot, vf_count, vf_settings,
};
use planner::action::{RebootCause, VfDriver};
use planner::{Action, Blocker, Lane, Step};
use std::fmt::Display;
use std::time::Duration;

/// How long the CNI may hold a VF; an ADD takes well under a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long an ADD may hold the RDMA devices of the node.
const MOVES: Duration = Duration::from_secs(2);

/// Takes the lock of RDMA moves for steps that make RDMA devices anew or take them away, whose character devices take
/// numbers and free them: an ADD beside us could get another number back than it gave, and where devices are given by
/// path its pod would have to be made again. By CDI name numbers do not matter, and nobody has to wait.
///
/// All cards together, so that they are still configured side by side. Where the lock cannot be had, the lanes of these
/// steps have failed for now.
pub fn lock_numbers(host: &dyn Host, steps: &[&Step], failed: &mut FailedLanes) -> Option<Lock> {
    let renumbering = steps.iter().filter(|step| step.action.makes_rdma_devices_anew());
    let lanes: Vec<Lane> = renumbering.map(|step| step.lane).collect();
    if lanes.is_empty() {
        return None;
    }
    let why = match host.lock(files::RDMA_LOCK, MOVES) {
        Ok(lock) => return Some(lock),
        Err(refusal) if refusal.errno == Errno::TIMEDOUT => format!(
            "a pod's RDMA device is being moved since {} s ({} is locked), and devices are given by path; trying again later",
            MOVES.as_secs(),
            files::RDMA_LOCK
        ),
        Err(refusal) => in_full(refusal),
    };
    failed.extend(lanes.into_iter().map(|lane| (lane, Why::Error(why.clone()))));
    None
}

/// Does one step.
pub fn step(host: &dyn Host, step: &Step) -> Result<(), Why> {
    let lock = |pci| device_lock::take(host, pci, PATIENCE);
    let locks = step.touches.iter().map(lock).collect::<Result<Vec<_>, _>>();
    let _locks = locks.map_err(|held| Why::Error(held.to_string()))?;
    action(host, &step.action).map_err(|failed| match failed {
        // What may be of lockdown is so where the kernel is locked down.
        Failed { sentence, is_denied: true } if lockdown::is_on(host) == Ok(true) => {
            Why::Blocked(Blocker::LockedDown { refusal: sentence })
        }
        Failed { sentence, .. } => Why::Error(sentence),
    })
}

/// What an operation said, and whether it was refused for want of a right.
struct Failed {
    sentence: String,
    is_denied: bool,
}

impl From<String> for Failed {
    fn from(sentence: String) -> Self {
        Self { sentence, is_denied: false }
    }
}

fn action(host: &dyn Host, action: &Action) -> Result<(), Failed> {
    match action {
        Action::SetModprobeOption { mode, in_container } => {
            done(rdma_mode::set_option(host, *mode, *in_container))
        }
        Action::RemoveModprobeOption => done(rdma_mode::remove_option(host)),
        Action::SetKernelArgument { tool, mode } => {
            let tool = Tool::parse(tool).map_err(sentence)?;
            done(kernel_argument::set(host, tool, Some(*mode)))
        }
        Action::RemoveKernelArgument { tool } => {
            let tool = Tool::parse(tool).map_err(sentence)?;
            done(kernel_argument::set(host, tool, None))
        }
        Action::ArmBootUnit { mode } => done(boot::arm(host, *mode)),
        Action::SwitchRdmaMode { mode } => done(rdma_mode::switch(host, *mode)),
        Action::ReloadRdma { mode, modules } => allowed(rdma_reload::reload(host, *mode, modules)),
        Action::RaiseFirmware { pf, source, vfs } => {
            allowed(firmware::raise(host, pf, *source, *vfs))
        }
        // The booking is the whole of it; a person does the rest.
        Action::LeaveReboot { .. } => Ok(()),
        Action::Reboot { causes, .. } => done(reboot::ask(host, &in_words(causes))),
        Action::SettleMode { keeps } => done(ledger::settle(host, *keeps).map_err(in_full)),
        Action::StartKubelet => done(reboot::start_kubelet(host)),
        Action::RememberFunction { interface } => remember(host, interface),
        Action::ForgetFunction { pf } => done(host.remove(&remembered(pf))),
        Action::SetVfCount { pf, count, probe } => done(vf_count::set(host, pf, *count, *probe)),
        Action::RestoreAutoprobe { pf } => done(autoprobe::restore(host, pf)),
        Action::SetEswitchMode { pf, mode } => done(eswitch::set(host, pf, *mode)),
        Action::SetPfMtu { pf, mtu } => done(link::set_mtu(host, pf, *mtu)),
        Action::SetPfUp { pf } => done(link::set_up(host, pf)),
        Action::SetVfMac { pf, vf, mac } => done(vf_settings::set_mac(host, pf, *vf, mac)),
        Action::SetVfGuid { pf, vf, guid } => done(vf_settings::set_guid(host, pf, *vf, guid)),
        Action::UnbindVf { pf, vf } => allowed(driver_bind::unbind(host, &address(host, pf, *vf)?)),
        Action::BindVf { pf, vf, driver } => {
            let pci = address(host, pf, *vf)?;
            match driver {
                VfDriver::Default => allowed(driver_bind::bind_default(host, &pci)),
                VfDriver::VfioPci => allowed(driver_bind::bind(host, &pci, "vfio-pci")),
            }
        }
        Action::SetVfMtu { pf, vf, mtu } => {
            done(link::set_mtu(host, &address(host, pf, *vf)?, *mtu))
        }
        Action::LoadVhost => allowed(facilities::load_vhost(host)),
    }
}

fn done<T>(result: Result<T, impl Display>) -> Result<(), Failed> {
    result.map(drop).map_err(|error| Failed::from(error.to_string()))
}

/// The same of what a locked-down kernel may refuse.
fn allowed<T>(result: Result<T, impl Display + Denied>) -> Result<(), Failed> {
    result
        .map(drop)
        .map_err(|error| Failed { is_denied: error.is_denied(), sentence: error.to_string() })
}

fn in_full(refusal: Refusal) -> String {
    format!("cannot {refusal}")
}

fn sentence(error: impl Display) -> String {
    error.to_string()
}

fn address(host: &dyn Host, pf: &PciAddress, vf: u32) -> Result<PciAddress, String> {
    function::vf(host, pf, vf).map_err(sentence)
}

fn in_words(causes: &[RebootCause]) -> String {
    let goals: Vec<String> = causes.iter().map(|c| format!("{} {}", c.reason, c.goal)).collect();
    goals.join(" and ")
}

/// Upstream's PF store, in upstream's form: either operator finds what the other configured.
fn remember(host: &dyn Host, interface: &Interface) -> Result<(), Failed> {
    let text = serde_json::to_vec(interface).map_err(sentence)?;
    done(host.replace(&remembered(&interface.pci_address), &text, 0o644))
}

fn remembered(pf: &PciAddress) -> String {
    format!("{}/{pf}", files::PF_STORE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use host::sim::{Fault, Flavour, Machine, SimHost};

    /// A step that loads a module which the kernel refuses, on a kernel that is locked down or not.
    fn refused(faults: &[Fault]) -> String {
        let mut machine = Machine::small_worker("w-0", Flavour::Rhel, api::Timestamp::UNIX_EPOCH);
        machine.faults.extend(faults.iter().cloned());
        let load = Step {
            action: Action::LoadVhost,
            disturbs: planner::Disturbance::Nothing,
            touches: std::collections::BTreeSet::new(),
            because: String::new(),
            lane: Lane::Node,
        };
        match step(&SimHost::new(machine), &load) {
            Ok(()) => "done".to_owned(),
            Err(Why::Error(error)) => error,
            Err(Why::Blocked(blocker)) => format!("{} ({})", blocker, blocker.reason()),
        }
    }

    #[test]
    fn what_a_locked_down_kernel_refuses_is_a_blocker_that_says_lockdown() {
        expect!["done"].assert_eq(&refused(&[]));
        expect!["cannot load vhost_net, without which there is no /dev/vhost-net, which needVhostNet is for: modprobe: ERROR: could not insert 'vhost_net': Operation not permitted; have the node load it at boot (/etc/modules-load.d), or type: modprobe vhost_net"].assert_eq(&refused(&[Fault::ModuleNotSigned]));
        expect!["cannot load vhost_net, without which there is no /dev/vhost-net, which needVhostNet is for: modprobe: ERROR: could not insert 'vhost_net': Operation not permitted; have the node load it at boot (/etc/modules-load.d), or type: modprobe vhost_net; the kernel is locked down (/sys/kernel/security/lockdown), so it takes signed modules only and lets nobody write a card's PCI configuration or memory: sign the module with a key that this kernel knows, or boot it without lockdown (Secure Boot off) (Lockdown)"].assert_eq(&refused(&[Fault::ModuleNotSigned, Fault::LockedDown]));
    }
}
