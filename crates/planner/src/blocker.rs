//! What a plan, a node or a drain waits for, as typed values.
//!
//! Waiting is data (design.md, section 2): the same sentence reaches status, events, the CLI, metrics and tests.
//! Something that a user wrote wrong is a `Problem`, not a blocker.
//! Long because it is a catalogue: each thing that can stand in the way, with its reason and its sentence.

use crate::action::RebootReason;
use crate::lifeline::Refused;
use crate::own_configuration;
use crate::reason::Reason;
use api::nodestate::BlockerStatus;
use api::{PciAddress, RdmaMode, Timestamp};
use std::fmt;
use std::time::Duration;

/// One thing that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blocker {
    /// A pod holds a device that the plan changes. `pod` is `namespace/name`, or empty where the kubelet does not name it yet.
    DeviceHeld {
        device: PciAddress,
        pod: String,
    },
    /// The eviction API refused; `message` is its sentence about the disruption budget. `owner` is what made the pod.
    DisruptionBudget {
        pod: String,
        owner: String,
        message: String,
    },
    /// The API refused for another reason than a budget that is used up; `message` is its sentence. `forced`: it was to be
    /// deleted, past all budgets.
    EvictionRefused {
        pod: String,
        owner: String,
        message: String,
        forced: bool,
    },
    /// An evicted pod is still shutting down, or waits for those who set its finalizers. `outstays`: for longer than its
    /// grace period, so that a person should look.
    PodTerminating {
        pod: String,
        finalizers: Vec<String>,
        outstays: bool,
    },
    /// The drain takes longer than its pool allows, and the pool says to wait, or to force and even that did not help.
    DrainDeadline {
        node: String,
        deadline: Duration,
        forced: bool,
    },
    /// The node was drained, and at the deadline its daemon is not done. `waits_for`: the end of the sentence.
    DrainedNotDone {
        node: String,
        deadline: Duration,
        waits_for: String,
    },
    /// OpenShift: the node's machine-config pool is being updated, and drains nodes by itself meanwhile.
    MachineConfigUpdating {
        node: String,
        pool: String,
    },
    /// OpenShift: nobody can say which machine-config pool the node is in, or whether it is at rest.
    MachineConfigUnknown {
        node: String,
        message: String,
    },
    /// `disableDrain`, and a pod holds a device.
    DrainDisabled {
        pod: String,
        devices: Vec<String>,
    },
    /// The drain of this node was given up at its deadline.
    DrainSkipped {
        node: String,
        pool: String,
        because: String,
    },
    /// As many nodes came back worse as `haltAfterFailures` allows; `failed` names them.
    RolloutHalted {
        node: String,
        pool: String,
        failed: Vec<String>,
    },
    /// The canaries have not all reached their goal.
    WaitingForCanary {
        node: String,
        pool: String,
        canaries: Vec<String>,
        /// Those of them that had their turn: nothing is under way that would bring them there.
        stuck: Vec<String>,
    },
    /// They have, and the pool is to wait for a person then.
    PausedAfterCanary {
        node: String,
        pool: String,
    },
    /// Nodes that nobody of us disturbs use up the limit too (`countUnavailable`); `names` says of each why.
    PoolUsedUp {
        node: String,
        limit: usize,
        names: Vec<String>,
    },
    /// As many nodes of the pool are disturbed as its `maxUnavailable` allows.
    /// `names` are the first few of the `busy` nodes.
    PoolLimit {
        node: String,
        limit: usize,
        busy: usize,
        names: Vec<String>,
    },
    /// `maxUnavailable: 0`.
    PoolPaused {
        node: String,
        pool: String,
    },
    /// `maxUnavailable` cannot be understood; `message` says why.
    PoolInvalid {
        node: String,
        pool: String,
        message: String,
    },
    /// The node is in more than one pool, so nobody can say under which limit it may be disturbed.
    TwoPools {
        node: String,
        pools: Vec<String>,
    },
    /// Another control-plane node is disturbed, or is not Ready.
    ControlPlaneBusy {
        node: String,
        other: String,
        disturbed: bool,
    },
    /// A node that is not Ready is not disturbed further.
    NodeNotReady {
        node: String,
    },
    /// The node is annotated for somebody else's drain.
    ExternalDrainer {
        node: String,
    },
    /// Steps wait until the operator has granted and finished a drain.
    /// `because` says what for, with every rung that was passed over and why; empty where the held devices say it.
    WaitingForDrain {
        reboot: bool,
        because: String,
    },
    /// A drain that suffices for VFs was given, and now a reboot is needed: the first is given back before the second is asked for.
    DrainTooSmall,
    /// The device plugin has not acknowledged yet that these devices are withdrawn.
    WaitingForWithdrawal {
        devices: Vec<PciAddress>,
    },
    /// The host's file of static GUIDs gives none to a VF of this PF; `why` says what is wrong with it.
    StaticGuids {
        pf: PciAddress,
        why: String,
    },
    /// The PF holds a GUID for the VF, and its RDMA device has none.
    GuidNotTaken {
        pf: PciAddress,
        vf: u32,
        guid: String,
    },
    /// The kernel has not come back from a change of a card. `stuck`: for so long that a person should look.
    KernelBusy {
        tried: String,
        since: Timestamp,
        stuck: bool,
    },
    /// The daemon has not said yet that nobody can be given the devices of this node any more.
    WaitingForFence {
        node: String,
    },
    /// It has had the time to.
    FenceMissing {
        node: String,
    },
    /// The operator's own pod is on this node, and no other node could take it: who would go on with the drain?
    NoPlaceForOperator {
        node: String,
        pod: String,
    },
    /// The operator's own pod leaves another node, and this is the only one that could take it.
    LastPlaceForOperator {
        node: String,
        pod: String,
    },
    /// The Node still counts these withdrawn devices: a pod that is scheduled for one now would be admitted and fail.
    WaitingForAllocatable {
        devices: Vec<PciAddress>,
    },
    /// VFs are made once, in the mode in which their pods will run; a boot would forget them.
    WaitingForMode {
        mode: RdmaMode,
    },
    /// The node has no PF at the address that the node state names.
    MissingCard {
        pf: PciAddress,
        name: String,
    },
    /// The kernel does not tell what the PF is like.
    UnreadableCard {
        pf: PciAddress,
        why: String,
    },
    /// The PF has no `sriov_totalvfs`: SR-IOV is off in firmware or BIOS, or the card has none.
    SriovDisabled {
        pf: PciAddress,
        /// What the firmware says, where it has SR-IOV on: then it is the BIOS.
        firmware: Option<String>,
    },
    VfLimit {
        pf: PciAddress,
        wanted: u32,
        allowed: u32,
    },
    /// The host itself lives by the PF, and an action would cut that.
    Lifeline(Box<Refused>),
    /// An externally managed PF is not as the policy needs it.
    ExternallyManaged {
        pf: PciAddress,
        message: String,
    },
    /// Nothing on this operating system sets the mode for the next boot.
    NoLever {
        mode: RdmaMode,
        operating_system: String,
    },
    /// An administrator's own argument on the kernel command line wins over everything that we could set.
    /// `file`: it stands there, for the next boot, and not on the command line of this one.
    KernelArgumentContradicts {
        wanted: RdmaMode,
        found: RdmaMode,
        file: Option<String>,
    },
    RdmaNotLoaded {
        mode: RdmaMode,
    },
    /// The RDMA modules are not reloaded, although the gate allows it: a reboot is needed.
    ReloadRefused {
        mode: RdmaMode,
        why: String,
    },
    /// The reboot took place and did not bring the goal; it is not tried again for this goal.
    RebootDidNotHelp {
        reason: RebootReason,
        levers: Vec<String>,
        expected: String,
        found: String,
    },
    /// The reboot was asked for `attempts` times and the boot id never changed.
    RebootDidNotHappen {
        reason: RebootReason,
        goal: String,
        attempts: u32,
    },
    /// A reboot was asked for a moment ago.
    RebootUnderWay {
        reason: RebootReason,
        goal: String,
    },
    /// The backstop for all reasons together.
    TooManyReboots {
        count: usize,
    },
    /// `SriovOperatorConfig.spec.disableReboot`: drained and prepared, the node waits for a person.
    RebootDisabled {
        reason: RebootReason,
        goal: String,
    },
    /// What is booked before a reboot could not be written to `place`, so there is no reboot.
    LedgerNotWritten {
        place: &'static str,
        why: String,
    },
    /// Kernel lockdown forbids it; `what` names the action, `command` what a person types elsewhere.
    Lockdown {
        what: String,
        command: String,
    },
    /// A step was refused for want of a right, and the kernel is locked down; `refusal` is the sentence of the step.
    LockedDown {
        refusal: String,
    },
    /// A card's firmware must be set, and we cannot; `command` is what a person types.
    Firmware {
        pf: PciAddress,
        setting: String,
        obstacle: Obstacle,
        command: String,
    },
    /// A lever was refused, so there was no reboot for this goal.
    LeverRefused {
        reason: RebootReason,
        goal: String,
        why: String,
    },
    /// VFs are made once: after the boot, which would forget them.
    WaitingForBoot,
    /// Something that this version refuses by name.
    Unsupported {
        object: String,
        what: String,
    },
}

/// Why we cannot set a card's firmware.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    ToolMissing,
    Unreadable(String),
    /// One of the two above, on a BlueField: so nobody can say whether it is in DPU mode.
    MayBeDpu {
        pf: PciAddress,
        why: Box<Obstacle>,
    },
    Refused(String),
    /// `disablePlugins: [mellanox]`.
    WritesDisabled,
    DpuMode,
}

impl Obstacle {
    fn reason(&self) -> Reason {
        match self {
            Self::ToolMissing => Reason::FirmwareToolMissing,
            Self::Unreadable(_) => Reason::FirmwareUnreadable,
            Self::MayBeDpu { why, .. } => why.reason(),
            Self::Refused(_) => Reason::FirmwareRefused,
            Self::WritesDisabled => Reason::FirmwareWritesDisabled,
            Self::DpuMode => Reason::DpuMode,
        }
    }
}

/// How to find out what the host's kernel does not tell.
pub(crate) fn may_be_dpu(pf: &PciAddress) -> String {
    format!(
        "it is a BlueField, which makes no VFs for the host in DPU mode: it is in it where `mstconfig -d {pf} q INTERNAL_CPU_ESWITCH_MANAGER` says ECPF(0)"
    )
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ToolMissing => f.write_str(
                "its driver lists no devlink parameters for it and this host has no mstconfig; install mstflint",
            ),
            Self::Unreadable(why) => write!(f, "it cannot be read: {why}"),
            Self::MayBeDpu { pf, why } => write!(f, "{why}; {}", may_be_dpu(pf)),
            Self::Refused(why) => f.write_str(why),
            Self::WritesDisabled => f.write_str("disablePlugins has mellanox"),
            Self::DpuMode => f.write_str(
                "this BlueField is in DPU mode, where its own processor owns the ports; set it there, or put the card into NIC mode",
            ),
        }
    }
}

impl Blocker {
    /// The fixed word for conditions, events and metrics.
    pub fn reason(&self) -> Reason {
        match self {
            Self::DeviceHeld { .. } => Reason::DeviceHeld,
            Self::DisruptionBudget { .. } => Reason::DisruptionBudget,
            Self::EvictionRefused { .. } => Reason::EvictionRefused,
            Self::PodTerminating { .. } => Reason::PodTerminating,
            Self::DrainDeadline { .. } | Self::DrainedNotDone { .. } => Reason::DrainDeadline,
            Self::DrainDisabled { .. } => Reason::DrainDisabled,
            Self::MachineConfigUpdating { .. } => Reason::MachineConfigUpdating,
            Self::MachineConfigUnknown { .. } => Reason::MachineConfigUnknown,
            Self::DrainSkipped { .. } => Reason::DrainSkipped,
            Self::RolloutHalted { .. } => Reason::RolloutHalted,
            Self::WaitingForCanary { .. } => Reason::WaitingForCanary,
            Self::PausedAfterCanary { .. } => Reason::PausedAfterCanary,
            Self::PoolLimit { .. } | Self::PoolUsedUp { .. } => Reason::PoolLimit,
            Self::PoolPaused { .. } => Reason::Paused,
            Self::PoolInvalid { .. } => Reason::PoolInvalid,
            Self::TwoPools { .. } => Reason::TwoPools,
            Self::ControlPlaneBusy { .. } => Reason::ControlPlaneBusy,
            Self::NodeNotReady { .. } => Reason::NodeNotReady,
            Self::ExternalDrainer { .. } => Reason::ExternalDrainer,
            Self::WaitingForDrain { .. } | Self::DrainTooSmall => Reason::WaitingForDrain,
            Self::WaitingForWithdrawal { .. } => Reason::WaitingForWithdrawal,
            Self::WaitingForAllocatable { .. } => Reason::WaitingForAllocatable,
            Self::StaticGuids { .. } => Reason::InvalidGuidFile,
            Self::GuidNotTaken { .. } => Reason::GuidNotTaken,
            Self::KernelBusy { .. } => Reason::KernelBusy,
            Self::WaitingForFence { .. } => Reason::WaitingForFence,
            Self::FenceMissing { .. } => Reason::FenceMissing,
            Self::NoPlaceForOperator { .. } | Self::LastPlaceForOperator { .. } => {
                Reason::NoPlaceForOperator
            }
            Self::WaitingForMode { .. } | Self::WaitingForBoot | Self::RebootUnderWay { .. } => {
                Reason::WaitingForReboot
            }
            Self::MissingCard { .. } => Reason::MissingCard,
            Self::UnreadableCard { .. } => Reason::UnreadableCard,
            Self::SriovDisabled { .. } => Reason::SriovDisabled,
            Self::VfLimit { .. } => Reason::VfLimit,
            Self::Lifeline(_) => Reason::Lifeline,
            Self::ExternallyManaged { .. } => Reason::ExternallyManaged,
            Self::NoLever { .. } => Reason::NoLever,
            Self::KernelArgumentContradicts { .. } => Reason::KernelArgumentContradicts,
            Self::RdmaNotLoaded { .. } => Reason::RdmaNotLoaded,
            Self::ReloadRefused { .. } => Reason::ReloadRefused,
            Self::RebootDidNotHelp { .. } => Reason::RebootDidNotHelp,
            Self::RebootDidNotHappen { .. } => Reason::RebootDidNotHappen,
            Self::TooManyReboots { .. } => Reason::TooManyReboots,
            Self::RebootDisabled { .. } => Reason::RebootDisabled,
            Self::LedgerNotWritten { .. } => Reason::LedgerNotWritten,
            Self::Lockdown { .. } | Self::LockedDown { .. } => Reason::Lockdown,
            Self::Firmware { obstacle, .. } => obstacle.reason(),
            Self::LeverRefused { .. } => Reason::FirmwareRefused,
            Self::Unsupported { .. } => Reason::Unsupported,
        }
    }

    /// True when it ends without a person: the plan goes on by itself. False means that somebody must act.
    pub fn ends_by_itself(&self) -> bool {
        match self {
            Self::KernelBusy { stuck, .. } => return !stuck,
            Self::WaitingForCanary { stuck, .. } => return stuck.is_empty(),
            _ => {}
        }
        matches!(
            self.reason(),
            Reason::DeviceHeld
                | Reason::DisruptionBudget
                | Reason::PodTerminating
                | Reason::PoolLimit
                | Reason::ControlPlaneBusy
                | Reason::WaitingForDrain
                | Reason::WaitingForWithdrawal
                | Reason::WaitingForAllocatable
                | Reason::WaitingForFence
                | Reason::WaitingForReboot
                | Reason::ReloadRefused
                | Reason::WaitingForCanary
                | Reason::MachineConfigUpdating
                | Reason::NoPlaceForOperator
        )
    }

    /// The pod that stands in the way of a drain until a person does something about it, as `namespace/name`.
    pub fn pod_in_the_way(&self) -> Option<&str> {
        match self {
            Self::DisruptionBudget { pod, .. }
            | Self::EvictionRefused { pod, .. }
            | Self::DrainDisabled { pod, .. }
            | Self::PodTerminating { pod, outstays: true, .. } => Some(pod),
            _ => None,
        }
    }

    /// True when a reboot was asked for, of the host or of a person, and the boot has not come yet. One that was asked for
    /// often enough is a person's too: what was prepared for it stands, and the node is kept for it.
    pub fn waits_for_a_boot(&self) -> bool {
        let never_came = matches!(self, Self::RebootDidNotHappen { .. });
        never_came || matches!(self, Self::RebootUnderWay { .. } | Self::RebootDisabled { .. })
    }

    /// As the node state's status carries it.
    pub fn status(&self) -> BlockerStatus {
        BlockerStatus { reason: self.reason().as_str().to_owned(), message: self.to_string() }
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeviceHeld { device, pod } if pod.is_empty() => {
                write!(f, "{device} was given to a pod that the kubelet does not name yet")
            }
            Self::DeviceHeld { device, pod } => write!(f, "pod {pod} holds {device}"),
            Self::DisruptionBudget { pod, owner, message } => {
                write!(f, "cannot evict pod {pod}{}: {message}", of(owner))
            }
            Self::EvictionRefused { pod, owner, message, forced: false } => {
                write!(f, "cannot evict pod {pod}{}: {message}", of(owner))
            }
            Self::EvictionRefused { pod, owner, message, forced: true } => {
                write!(f, "cannot delete pod {pod}{}: {message}", of(owner))
            }
            Self::PodTerminating { pod, finalizers, outstays: false } if finalizers.is_empty() => {
                write!(f, "pod {pod} is still shutting down")
            }
            Self::PodTerminating { pod, finalizers, outstays: true } if finalizers.is_empty() => {
                write!(
                    f,
                    "pod {pod} is still shutting down although its grace period is over; see what its processes wait for, and whether its kubelet and container runtime are well"
                )
            }
            Self::PodTerminating { pod, finalizers, .. } => write!(
                f,
                "pod {pod} is still there: whoever set {} on it has not removed that yet",
                finalizer_words(finalizers)
            ),
            Self::DrainDeadline { node, deadline, forced: true } => write!(
                f,
                "{node} is not drained {} after its turn came, and spec.drain.onDeadline: force does not end what is in the way; free it",
                crate::deadline::in_words(*deadline)
            ),
            Self::DrainDeadline { node, deadline, forced: false } => write!(
                f,
                "{node} is not drained {} after its turn came; free what is in the way, or write skipNode or force into spec.drain.onDeadline of its pool",
                crate::deadline::in_words(*deadline)
            ),
            Self::DrainedNotDone { node, deadline, waits_for } => write!(
                f,
                "{node} is drained and not done {} after its turn came: {waits_for}",
                crate::deadline::in_words(*deadline)
            ),
            Self::DrainDisabled { pod, devices } => write!(
                f,
                "pod {pod} holds {} and disableDrain is set: end the pod, take disableDrain back, or write force into spec.drain.onDeadline of the node's pool",
                list(devices)
            ),
            Self::MachineConfigUpdating { node, pool } => {
                write!(f, "{node} waits: machine-config pool {pool} is being updated")
            }
            Self::MachineConfigUnknown { node, message } => write!(f, "{node} waits: {message}"),
            Self::DrainSkipped { node, pool, because } => write!(
                f,
                "{node} waits: its drain was given up ({because}); {}",
                resume(pool)
            ),
            Self::RolloutHalted { node, pool, failed } => {
                let verb = if failed.len() == 1 { "is" } else { "are" };
                write!(f, "{node} waits: the rollout is halted because {} {verb} worse than before; mend it, or {}", list(failed), resume(pool))
            }
            Self::WaitingForCanary { node, pool, canaries, stuck } => {
                write!(f, "{node} waits until {} reached the goal: canaries go first", have(canaries))?;
                match stuck.is_empty() {
                    true => Ok(()),
                    false => write!(f, "; {} had a turn and did not get there: mend it, or {}", list(stuck), resume(pool)),
                }
            }
            Self::PausedAfterCanary { node, pool } => {
                write!(f, "{node} waits: the canaries reached the goal and pauseAfterCanary is set; {}", resume(pool))
            }
            Self::PoolUsedUp { node, limit, names } => write!(
                f,
                "{node} waits: the {limit} allowed {} used up ({})",
                if *limit == 1 { "node is" } else { "nodes are" },
                list(names)
            ),
            Self::PoolLimit { node, limit, busy, names } => {
                let verb = if *busy == 1 { "is" } else { "are" };
                let names = first_of(names, *busy);
                write!(f, "{node} waits: {busy} of {limit} allowed nodes ({names}) {verb} draining")
            }
            Self::PoolPaused { node, pool } => {
                write!(f, "{node} waits: pool {pool} is paused by maxUnavailable: 0")
            }
            Self::PoolInvalid { node, pool, message } => {
                write!(f, "{node} waits: pool {pool}: {message}")
            }
            Self::TwoPools { node, pools } => {
                let names = list(pools);
                write!(f, "{node} waits: it is in {} pools ({names}); change the node selectors so that one is left", pools.len())
            }
            Self::ControlPlaneBusy { node, other, disturbed: true } => {
                write!(f, "{node} waits: control-plane nodes go one at a time, and {other} is draining")
            }
            Self::ControlPlaneBusy { node, other, disturbed: false } => {
                write!(f, "{node} waits: control-plane nodes go only while the others are Ready, and {other} is not")
            }
            Self::NodeNotReady { node } => write!(f, "{node} waits: it is not Ready; repair it, the others go on"),
            Self::ExternalDrainer { node } => {
                let key = api::annotation::EXTERNAL_DRAINER;
                write!(f, "{node} waits for somebody else's drain: its node state has {key}")
            }
            Self::WaitingForDrain { reboot, because } => {
                f.write_str(match reboot {
                    true => "waiting until the node is drained for a reboot",
                    false => "waiting until the pods that hold devices are drained",
                })?;
                match because.as_str() {
                    "" => Ok(()),
                    because => write!(f, ": {because}"),
                }
            }
            Self::DrainTooSmall => f.write_str(
                "the drain was granted for devices and a reboot is needed now: giving it back before asking again",
            ),
            Self::WaitingForWithdrawal { devices } => {
                let names: Vec<String> = devices.iter().map(ToString::to_string).collect();
                write!(f, "waiting until the device plugin acknowledges that {} withdrawn", is_are(&names))
            }
            Self::WaitingForAllocatable { devices } => {
                let names: Vec<String> = devices.iter().map(ToString::to_string).collect();
                write!(f, "waiting until Node.status.allocatable shows that {} withdrawn", is_are(&names))
            }
            Self::StaticGuids { pf, why } => write!(
                f,
                "the VFs of {pf} get no GUIDs from {}: {why}; mend the file, or remove it to have GUIDs derived",
                api::files::GUIDS
            ),
            Self::GuidNotTaken { pf, vf, guid } => write!(
                f,
                "VF {vf} of {pf} came up without a GUID although the PF holds {guid} for it; see the kernel's log of its driver, and unbind and bind the VF when it is mended"
            ),
            Self::KernelBusy { tried, since, .. } => write!(
                f,
                "the kernel has been at \"{tried}\" since {since:.0} and cannot be stopped; nothing else is changed there until it is done: end what uses a device of the card (see /dev/infiniband, rdma resource show), or reboot the node"
            ),
            Self::WaitingForFence { node } => write!(
                f,
                "the pods with devices stay until the daemon of {node} says that nobody can be given one any more"
            ),
            Self::NoPlaceForOperator { node, pod } => write!(
                f,
                "the drain of {node} waits: the operator's own pod {pod} runs there, and no other node is Ready, schedulable and without a taint that keeps it away; uncordon one, or wait until one is back"
            ),
            Self::LastPlaceForOperator { node, pod } => write!(
                f,
                "the drain of {node} waits: the operator's own pod {pod} leaves its node, and no node but {node} could take it; it goes on when the operator runs again and another node is back"
            ),
            Self::FenceMissing { node } => write!(
                f,
                "the pods with devices stay: the daemon of {node} has not said for a minute that its devices are withdrawn; see whether its pod {} runs there, and in the version of this operator",
                api::names::DAEMON
            ),
            Self::WaitingForMode { mode } => {
                write!(f, "VFs are left as they are until the node has RDMA mode {mode}")
            }
            Self::MissingCard { pf, name } if name.is_empty() => {
                write!(f, "cannot configure {pf}: the node has no such network function; put the card back, or have no policy select it")
            }
            Self::MissingCard { pf, name } => {
                write!(f, "cannot configure {pf} ({name}): the node has no such network function; put the card back, or have no policy select it")
            }
            Self::UnreadableCard { pf, why } => write!(
                f,
                "{pf} is left as it is, because it cannot be told what it is like: {why}; it is looked at again, and the kernel log may say more"
            ),
            Self::SriovDisabled { pf, firmware: None } => write!(
                f,
                "cannot make VFs on {pf}: it shows no sriov_totalvfs; switch SR-IOV on in firmware and BIOS"
            ),
            Self::SriovDisabled { pf, firmware: Some(firmware) } => write!(
                f,
                "cannot make VFs on {pf}: its firmware has {firmware} and the kernel shows no sriov_totalvfs; switch SR-IOV on in the BIOS"
            ),
            Self::VfLimit { pf, wanted, allowed } => write!(
                f,
                "cannot set {wanted} VFs on {pf}: the card allows {allowed}; ask for fewer or raise the number in firmware"
            ),
            Self::Lifeline(refused) => write!(f, "{refused}"),
            Self::ExternallyManaged { pf, message } => {
                write!(f, "{pf} is externally managed and not ready: {message}")
            }
            Self::NoLever { mode, operating_system } => write!(
                f,
                "cannot set RDMA mode {mode}: this operating system has no modprobe.d that we may write and no tool for the kernel command line; {}",
                own_configuration::for_netns_mode(operating_system, netns_mode(*mode))
            ),
            Self::KernelArgumentContradicts { wanted, found, file: Some(file) } => write!(
                f,
                "cannot set RDMA mode {wanted}: {file} has ib_core.netns_mode={} for the next boot, which ironrail did not write; remove it and run update-grub, or ask for RDMA mode {found}",
                netns_mode(*found)
            ),
            Self::KernelArgumentContradicts { wanted, found, file: None } => write!(
                f,
                "cannot set RDMA mode {wanted}: the kernel command line has ib_core.netns_mode={}, which ironrail did not set; remove it and reboot the node, or ask for RDMA mode {found}",
                netns_mode(*found)
            ),
            Self::RdmaNotLoaded { mode } => write!(
                f,
                "RDMA mode {mode} waits for the RDMA subsystem: this node has no ib_core; load the RDMA modules of its card (for ConnectX: modprobe mlx5_ib)"
            ),
            Self::ReloadRefused { mode, why } => write!(
                f,
                "the RDMA modules are not reloaded for mode {mode}, so a reboot is needed for it: {why}"
            ),
            Self::RebootDidNotHelp { reason, levers, expected, found } => write!(
                f,
                "a reboot did not bring {}: expected {expected}, found {found}, after {}; no further reboot for this: {}, then {RETRY}",
                goal_word(*reason),
                list(levers),
                cure(*reason)
            ),
            Self::RebootDidNotHappen { reason, goal, attempts } => write!(
                f,
                "cannot bring {} {goal}: a reboot was asked for {attempts} times and the node did not boot; it stays prepared for that boot, and drained if it was drained, until you reboot it by hand, or {RETRY}",
                goal_word(*reason)
            ),
            Self::RebootUnderWay { reason, goal } => {
                write!(f, "the reboot for {} {goal} was asked for and has not begun yet", goal_word(*reason))
            }
            Self::TooManyReboots { count } => write!(
                f,
                "cannot reboot: {count} reboots in the last 24 hours, and {} are the limit for all reasons together; find out why, then {RETRY}",
                crate::ledger::REBOOTS_A_DAY
            ),
            Self::RebootDisabled { reason, goal } => write!(
                f,
                "the node is prepared for {} {goal}, and disableReboot leaves the reboot to a person: reboot it",
                goal_word(*reason)
            ),
            Self::LedgerNotWritten { place, why } => write!(
                f,
                "cannot reboot: the reboot must be booked in {place} first, and that was refused: {why}; it is tried again, so free the disk or mend what refuses it"
            ),
            Self::Lockdown { what, command } => write!(
                f,
                "cannot {what}: the kernel is locked down; boot it without lockdown (Secure Boot off) and type: {command}"
            ),
            Self::LockedDown { refusal } => write!(
                f,
                "{refusal}; the kernel is locked down (/sys/kernel/security/lockdown), so it takes signed modules only and lets nobody write a card's PCI configuration or memory: sign the module with a key that this kernel knows, or boot it without lockdown (Secure Boot off)"
            ),
            // The refusal is a sentence that names card and setting.
            Self::Firmware { obstacle: Obstacle::Refused(why), command, .. } => {
                write!(f, "{why}; by hand: {command}, then reboot; or {RETRY}")
            }
            Self::Firmware { pf, setting, obstacle, command } => write!(
                f,
                "cannot set {setting} in the firmware of {pf}: {obstacle}; by hand: {command}, then reboot"
            ),
            Self::LeverRefused { reason, goal, why } => {
                write!(f, "cannot bring {} {goal}: {why}; mend it, then {RETRY}", goal_word(*reason))
            }
            Self::WaitingForBoot => {
                f.write_str("VFs are left as they are until the reboot that this node needs")
            }
            Self::Unsupported { object, what } => {
                write!(f, "{object}: {what} is not supported by this version")
            }
        }
    }
}

/// The value of `ib_core`'s parameter `netns_mode`.
pub fn netns_mode(mode: RdmaMode) -> u8 {
    match mode {
        RdmaMode::Shared => 1,
        RdmaMode::Exclusive => 0,
    }
}

/// The way out of a closed key.
const RETRY: &str = "annotate the node with ironrail.dev/retry-reboot=<a new value>";

/// What a person looks at when a boot brought the old value again.
fn cure(reason: RebootReason) -> &'static str {
    match reason {
        RebootReason::RdmaMode => {
            "look for another netns_mode in modprobe.d, the initramfs or the boot loader"
        }
        RebootReason::Firmware => {
            "the server may need a cold power cycle (power off and on, not only a reboot)"
        }
    }
}

fn goal_word(reason: RebootReason) -> &'static str {
    match reason {
        RebootReason::RdmaMode => "RDMA mode",
        RebootReason::Firmware => "firmware setting",
    }
}

/// ` of ReplicaSet web`, or nothing.
fn of(owner: &str) -> String {
    match owner {
        "" => String::new(),
        owner => format!(" of {owner}"),
    }
}

fn finalizer_words(finalizers: &[String]) -> String {
    let word = if finalizers.len() == 1 { "finalizer" } else { "finalizers" };
    format!("{word} {}", list(finalizers))
}

fn have(names: &[String]) -> String {
    let verb = if names.len() == 1 { "has" } else { "have" };
    format!("{} {verb}", list(names))
}

/// The way out of what only a person ends.
fn resume(pool: &str) -> String {
    format!("give the annotation {} of pool {pool} a new value to go on", api::annotation::RESUME)
}

fn is_are(names: &[String]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", list(names))
}

/// How many names a sentence shows.
pub(crate) const SHOWN: usize = 5;

/// Names joined for a sentence: the first few, then how many more.
pub fn list(names: &[String]) -> String {
    match names {
        [] => "nothing".to_owned(),
        names => first_of(&names[..names.len().min(SHOWN)], names.len()),
    }
}

/// Names of nodes for a sentence; one that follows itself is said once.
pub(crate) fn on_nodes<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.dedup();
    list(&names)
}

fn first_of(names: &[String], total: usize) -> String {
    match total.saturating_sub(names.len()) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}
