//! The closed list of things that ironrail can do to a host, and how much each disturbs.
//!
//! The executor has one match over `Action` and no choice to make: every value that an operation needs is in the
//! action. Whether an action is right, may run now, or must wait is decided in `order`, never here.

use api::inventory::FirmwareSource;
use api::nodestate::Interface;
use api::{EswitchMode, PciAddress, RdmaMode};
use std::collections::BTreeSet;
use std::fmt;

/// One thing to do to a host. Idempotent: doing it twice is doing it once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Writes `options ib_core netns_mode=…` into our file below `modprobe.d` (`api::files::MODPROBE`), or into the one
    /// that a driver container mounts.
    SetModprobeOption { mode: RdmaMode, in_container: bool },
    /// Removes our files.
    RemoveModprobeOption,
    /// Puts `ib_core.netns_mode` of this mode on the kernel command line of the next boot, and takes the other one off.
    SetKernelArgument { tool: String, mode: RdmaMode },
    /// Takes both `ib_core.netns_mode` arguments off the kernel command line of the next boot.
    RemoveKernelArgument { tool: String },
    /// Has the installed boot phase switch to this mode at the next boot, before any other network namespace exists.
    ArmBootUnit { mode: RdmaMode },
    /// Switches the RDMA subsystem at once, by RDMA netlink (kernel: EBUSY while another network namespace exists).
    SwitchRdmaMode { mode: RdmaMode },
    /// Unloads these modules in this order, `ib_core` last, and loads them again with `ib_core` in this mode.
    ReloadRdma { mode: RdmaMode, modules: Vec<String> },
    /// Has the card's firmware show at least this many VFs from the next boot on, and SR-IOV on.
    RaiseFirmware { pf: PciAddress, source: FirmwareSource, vfs: u32 },
    /// Boots the host anew. `pending` is booked for each cause, on disk and in the status, before it is asked for.
    Reboot { causes: Vec<RebootCause>, attempt: u32 },
    /// Books `pending` for each cause and leaves the reboot to a person (`disableReboot`).
    LeaveReboot { causes: Vec<RebootCause> },
    /// Marks in the ledger that nothing stands on the host any more of what was done for another RDMA mode than `keeps`;
    /// with none, for any mode: from then on the mode is not ours. A reboot that is pending for it is wanted no more.
    SettleMode { keeps: Option<RdmaMode> },
    /// Starts the kubelet, which a reboot that never came has stopped.
    StartKubelet,

    /// Writes upstream's PF store file, before the first change, so that a crash leaves the PF marked as ours.
    RememberFunction { interface: Box<Interface> },
    /// Removes the PF store file: the PF is no longer ours.
    ForgetFunction { pf: PciAddress },
    /// Brings the PF to exactly `count` VFs. With `probe: false` they are created without drivers, and none takes them
    /// (`sriov_drivers_autoprobe` is 0) until `RestoreAutoprobe`, so that each is probed once, with its settings.
    SetVfCount { pf: PciAddress, count: u32, probe: bool },
    /// Puts `sriov_drivers_autoprobe` back to what it was before the VFs were made.
    RestoreAutoprobe { pf: PciAddress },
    /// Sets the mode of the card's embedded switch by devlink. The PF has no VFs at that time.
    SetEswitchMode { pf: PciAddress, mode: EswitchMode },
    /// Sets the MTU, in bytes, of the PF's netdev.
    SetPfMtu { pf: PciAddress, mtu: u32 },
    /// Sets the PF's netdev administratively up.
    SetPfUp { pf: PciAddress },

    /// Sets the MAC that the PF holds for the VF.
    SetVfMac { pf: PciAddress, vf: u32, mac: String },
    /// Sets node and port GUID of the VF through the PF; `guid` as the kernel prints it, `0011:2233:4455:6677`.
    SetVfGuid { pf: PciAddress, vf: u32, guid: String },
    /// Takes the VF away from its driver, whichever that is.
    UnbindVf { pf: PciAddress, vf: u32 },
    /// Gives the VF to this driver, away from another one if need be.
    BindVf { pf: PciAddress, vf: u32, driver: VfDriver },
    /// Sets the MTU, in bytes, of the VF's netdev.
    SetVfMtu { pf: PciAddress, vf: u32, mtu: u32 },

    /// Loads `vhost_net` and `tun`, so that their device nodes are there.
    LoadVhost,
}

/// Which driver a VF is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VfDriver {
    /// The one that the kernel finds for the function: no override, then a probe.
    Default,
    /// `vfio-pci`, by `driver_override`; the module is loaded first.
    VfioPci,
}

/// Why a reboot is asked for: the key (`reason`, `goal`) of the reboot ledger, and what was done for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebootCause {
    pub reason: RebootReason,
    /// The goal as text: `exclusive`.
    pub goal: String,
    /// What was changed on the host so that the boot brings the goal: `modprobe.d`, `kernel argument by grubby`.
    pub levers: Vec<String>,
}

/// The kinds of goal that only a boot reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RebootReason {
    RdmaMode,
    Firmware,
}

impl RebootReason {
    /// As the ledger writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RdmaMode => "RdmaMode",
            Self::Firmware => "Firmware",
        }
    }

    /// Reads what the ledger has; None for a reason that is none of a reboot.
    pub fn read(text: &str) -> Option<Self> {
        [Self::RdmaMode, Self::Firmware].into_iter().find(|reason| reason.as_str() == text)
    }
}

/// Whom an action disturbs, from nobody to everybody on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disturbance {
    Nothing,
    /// The pod that holds the one VF.
    VfHolder,
    /// The pods that hold any VF of the PF, or the PF.
    PfHolders,
    /// Besides those, what the host itself does over the PF's own interface.
    PfLink,
    /// Every pod of the node.
    Node,
}

/// Steps of different lanes may run in parallel, except that `Node` runs alone: what is before it in the plan is done
/// before it starts, and what is after it waits for it. Within a lane the order of the plan holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    Node,
    /// One card: its functions share firmware, eswitch and locks. The address is its function 0.
    Card(PciAddress),
}

impl Lane {
    /// The lane of the card that this function belongs to.
    pub fn of(function: &PciAddress) -> Self {
        Self::Card(PciAddress { function: 0, ..*function })
    }
}

/// One action of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub action: Action,
    pub disturbs: Disturbance,
    /// The devices, by their id for the kubelet, that the action changes or takes away. They exist now: a VF that an
    /// earlier step makes is nobody's yet. Empty for a reboot, which is ordered by the drain and not by devices.
    pub touches: BTreeSet<PciAddress>,
    /// Why, for people: `policy train asks for 8 VFs and the card has 4`.
    pub because: String,
    pub lane: Lane,
}

impl Action {
    /// Names the levers that this action pulls, as the ledger writes them; `None` when it is no lever.
    pub fn lever(&self) -> Option<String> {
        match self {
            Self::SetModprobeOption { in_container: true, .. } => {
                Some("modprobe.d of the driver container".to_owned())
            }
            Self::SetModprobeOption { .. } | Self::RemoveModprobeOption => {
                Some("modprobe.d".to_owned())
            }
            Self::SetKernelArgument { tool, .. } | Self::RemoveKernelArgument { tool } => {
                Some(format!("kernel argument by {tool}"))
            }
            Self::ArmBootUnit { .. } => Some("boot unit".to_owned()),
            Self::RaiseFirmware { source: FirmwareSource::Devlink, .. } => {
                Some("firmware by devlink".to_owned())
            }
            Self::RaiseFirmware { source: FirmwareSource::Mstconfig, .. } => {
                Some("firmware by mstconfig".to_owned())
            }
            _ => None,
        }
    }

    /// True when RDMA devices of a card are made anew or taken away, and with them character devices whose numbers the
    /// kernel gives again (drivers/infiniband/core/uverbs_main.c, `ib_uverbs_add_one`). A reload of the modules, for which no
    /// pod may have a device, is none.
    pub fn makes_rdma_devices_anew(&self) -> bool {
        matches!(
            self,
            Self::SetVfCount { .. }
                | Self::SetEswitchMode { .. }
                | Self::UnbindVf { .. }
                | Self::BindVf { .. }
        )
    }

    /// True when the world must be observed again before the next step is trusted. After VFs were made without drivers it
    /// is not yet: they get what they are to have when they are probed, and then are looked at.
    pub fn needs_fresh_eyes(&self) -> bool {
        matches!(
            self,
            Self::SwitchRdmaMode { .. }
                | Self::ReloadRdma { .. }
                | Self::Reboot { .. }
                | Self::LeaveReboot { .. }
                | Self::SetVfCount { count: 0, .. }
                | Self::SetVfCount { probe: true, .. }
                | Self::RestoreAutoprobe { .. }
                | Self::SetEswitchMode { .. }
        )
    }
}

impl fmt::Display for VfDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "its default driver",
            Self::VfioPci => "vfio-pci",
        })
    }
}

impl fmt::Display for RebootReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetModprobeOption { mode, in_container: false } => {
                write!(f, "set modprobe option rdma {mode}")
            }
            Self::SetModprobeOption { mode, in_container: true } => {
                write!(f, "set modprobe option rdma {mode} for the driver container")
            }
            Self::RemoveModprobeOption => write!(f, "remove modprobe option"),
            Self::SetKernelArgument { tool, mode } => {
                write!(f, "set kernel argument rdma {mode} by {tool}")
            }
            Self::RemoveKernelArgument { tool } => write!(f, "remove kernel argument by {tool}"),
            Self::ArmBootUnit { mode } => write!(f, "have the boot unit set rdma {mode}"),
            Self::SwitchRdmaMode { mode } => write!(f, "switch rdma mode to {mode}"),
            Self::ReloadRdma { mode, .. } => write!(f, "reload rdma modules for mode {mode}"),
            Self::Reboot { causes, attempt } => {
                write!(f, "reboot for {}", in_words(causes))?;
                match attempt {
                    1 => Ok(()),
                    n => write!(f, " (attempt {n})"),
                }
            }
            Self::RaiseFirmware { pf, vfs, .. } => {
                write!(f, "raise firmware of {pf} to {vfs} vfs")
            }
            Self::LeaveReboot { causes } => {
                write!(f, "leave to a person the reboot for {}", in_words(causes))
            }
            Self::RememberFunction { interface } => {
                write!(f, "remember {}", interface.pci_address)
            }
            Self::ForgetFunction { pf } => write!(f, "forget {pf}"),
            Self::SetVfCount { pf, count, probe } => {
                write!(f, "set vf count {pf} {count}")?;
                match (probe, count) {
                    (false, 1..) => f.write_str(" without drivers"),
                    _ => Ok(()),
                }
            }
            Self::RestoreAutoprobe { pf } => write!(f, "restore autoprobe {pf}"),
            Self::SetEswitchMode { pf, mode } => write!(f, "set eswitch mode {pf} {mode}"),
            Self::SettleMode { keeps: Some(mode) } => {
                write!(f, "settle the ledger of every rdma mode but {mode}")
            }
            Self::SettleMode { keeps: None } => f.write_str("settle the ledger of the rdma mode"),
            Self::StartKubelet => f.write_str("start the kubelet again"),
            Self::SetPfMtu { pf, mtu } => write!(f, "set pf mtu {pf} {mtu}"),
            Self::SetPfUp { pf } => write!(f, "set pf up {pf}"),
            Self::SetVfMac { pf, vf, mac } => write!(f, "set vf mac {pf} vf {vf} {mac}"),
            Self::SetVfGuid { pf, vf, guid } => write!(f, "set vf guid {pf} vf {vf} {guid}"),
            Self::UnbindVf { pf, vf } => write!(f, "unbind {pf} vf {vf}"),
            Self::BindVf { pf, vf, driver } => write!(f, "bind {pf} vf {vf} to {driver}"),
            Self::SetVfMtu { pf, vf, mtu } => write!(f, "set vf mtu {pf} vf {vf} {mtu}"),
            Self::LoadVhost => f.write_str("load vhost_net and tun"),
        }
    }
}

/// `RdmaMode exclusive and Firmware …`.
fn in_words(causes: &[RebootCause]) -> String {
    let causes: Vec<String> = causes.iter().map(|c| format!("{} {}", c.reason, c.goal)).collect();
    causes.join(" and ")
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  because {}", self.action, self.because)
    }
}
