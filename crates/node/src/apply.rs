//! One match: an action of the plan to the operation of `host` that does it. Nothing is chosen here.
//!
//! Each VF that a step touches is locked meanwhile, so that the CNI neither attaches nor detaches it under our hands.

use crate::{boot, ledger};
use api::nodestate::Interface;
use api::{PciAddress, files};
use host::kernel_argument::{self, Tool};
use host::{
    Host, Refusal, autoprobe, device_lock, driver_bind, eswitch, firmware, function, link,
    rdma_mode, rdma_reload, reboot, vf_count, vf_settings,
};
use planner::action::{RebootCause, VfDriver};
use planner::{Action, Step};
use std::fmt::Display;
use std::time::Duration;

/// How long the CNI may hold a VF; an ADD takes well under a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// Does one step. The error is a sentence that names the object.
pub fn step(host: &dyn Host, step: &Step) -> Result<(), String> {
    let lock = |pci| device_lock::take(host, pci, PATIENCE);
    let _locks = step.touches.iter().map(lock).collect::<Result<Vec<_>, _>>().map_err(sentence)?;
    action(host, &step.action).map_err(|why| with_lockdown(host, why))
}

/// What the kernel and modprobe say where a locked-down kernel may be the reason: EPERM, EKEYREJECTED, ENOKEY.
const REFUSALS: [&str; 3] =
    ["operation not permitted", "key was rejected by service", "required key not available"];

/// Such a kernel takes signed modules only, and lets nobody write a card's PCI configuration or reach its memory
/// (security/security.c, lockdown_reasons); of itself it says no more than EPERM.
fn with_lockdown(host: &dyn Host, why: String) -> String {
    let said = why.to_lowercase();
    let may_be = REFUSALS.iter().any(|refusal| said.contains(refusal));
    match may_be && firmware::locked_down(host) == Ok(true) {
        true => format!(
            "{why}; the kernel is locked down, so it takes signed modules only and lets nobody write a card's PCI configuration or memory: sign the module with a key that this kernel knows, or boot it without lockdown (Secure Boot off)"
        ),
        false => why,
    }
}

fn action(host: &dyn Host, action: &Action) -> Result<(), String> {
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
        Action::ReloadRdma { mode, modules } => done(rdma_reload::reload(host, *mode, modules)),
        Action::RaiseFirmware { pf, source, vfs } => done(firmware::raise(host, pf, *source, *vfs)),
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
        Action::UnbindVf { pf, vf } => done(driver_bind::unbind(host, &address(host, pf, *vf)?)),
        Action::BindVf { pf, vf, driver } => {
            let pci = address(host, pf, *vf)?;
            match driver {
                VfDriver::Default => done(driver_bind::bind_default(host, &pci)),
                VfDriver::VfioPci => done(driver_bind::bind(host, &pci, "vfio-pci")),
            }
        }
        Action::SetVfMtu { pf, vf, mtu } => {
            done(link::set_mtu(host, &address(host, pf, *vf)?, *mtu))
        }
    }
}

fn done<T>(result: Result<T, impl Display>) -> Result<(), String> {
    result.map(drop).map_err(sentence)
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
fn remember(host: &dyn Host, interface: &Interface) -> Result<(), String> {
    let text = serde_json::to_vec(interface).map_err(sentence)?;
    done(host.replace(&remembered(&interface.pci_address), &text, 0o644))
}

fn remembered(pf: &PciAddress) -> String {
    format!("{}/{pf}", files::PF_STORE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::sim::{Fault, Flavour, Machine, SimHost};

    #[test]
    fn where_the_kernel_is_locked_down_what_it_may_have_refused_for_that_says_so() {
        let refused = [
            "cannot load vfio_pci: modprobe: ERROR: could not insert 'vfio_pci': Key was rejected by service",
            "cannot write to 0000:03:00.0: operation not permitted",
            "cannot set 9 VFs on 0000:03:00.0: the card allows 8",
        ];
        let told = |faults: &[Fault]| {
            let mut machine =
                Machine::small_worker("w-0", Flavour::Rhel, api::Timestamp::UNIX_EPOCH);
            machine.faults.extend(faults.iter().cloned());
            let host = SimHost::new(machine);
            refused.map(|why| with_lockdown(&host, why.to_owned()).contains("locked down"))
        };
        assert_eq!(told(&[]), [false; 3]);
        assert_eq!(told(&[Fault::LockedDown]), [true, true, false]);
    }
}
