//! What the seed may do to the world, how often it did, and how often it mattered.
//!
//! A fault **fired** when it took place. It **mattered** when somebody went on differently for it: a killed process had
//! work half done, a late or lost event left a process to act on what was no longer so, a refused write would have
//! changed something. Each place that fires a fault says there what it takes to matter.

use std::collections::BTreeMap;
use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A daemon or device plugin dies before or after the k-th primitive of a step.
    CrashAtPrimitive,
    /// A process dies between two writes of a step.
    CrashBetweenWrites,
    /// A CNI plugin dies before or after its k-th primitive.
    CrashInCni,
    /// The kubelet starts anew: device plugins have to register again, containers run on.
    KubeletRestart,
    /// Events of a watch are lost; the process lists again later.
    LostWatch,
    /// Events of a watch arrive late.
    LateWatch,
    /// Events of a watch are told twice.
    DoubledWatch,
    /// A write is answered with a conflict and did not take place.
    Conflict,
    /// A write took place and the answer was lost.
    LostAnswer,
    /// The API answers nobody for a while.
    Outage,
    /// A second operator runs for a while, and both believe to lead.
    TwoLeaders,
    /// A machine loses its power, and has it back.
    PowerCut,
    /// A machine loses its power, and comes back with a disk on which nothing of ours is kept.
    LostDisk,
    /// A machine loses its power, and nobody comes to switch it on.
    StaysDown,
    /// The clock of a node jumps, and is put right later.
    ClockJump,
    /// VFs come to the bus seconds after they were asked for.
    SlowKernel,
    /// The kernel refuses to change a card for a while.
    RefusingKernel,
    /// Neither kernel argument nor modprobe option is heeded, so that no reboot helps.
    ArgumentsIgnored,
    /// The firmware of a card takes a value, and the boot brings the old one.
    FirmwareIgnored,
    /// A machine accepts a reboot that never happens.
    RebootIgnored,
    /// A disruption budget that allows nothing, ever.
    StuckBudget,
    /// A user deletes or changes an object of ours.
    UserMeddles,
    /// A pod that nobody scheduled is bound to a node and asks for a device, right after a step there.
    PodAdmitted,
}

/// Every fault with its name.
const NAMES: [(Fault, &str); 23] = [
    (Fault::CrashAtPrimitive, "crash at a primitive"),
    (Fault::CrashBetweenWrites, "crash between writes"),
    (Fault::CrashInCni, "crash in the CNI"),
    (Fault::KubeletRestart, "kubelet restart"),
    (Fault::LostWatch, "lost watch event"),
    (Fault::LateWatch, "late watch event"),
    (Fault::DoubledWatch, "doubled watch event"),
    (Fault::Conflict, "conflict"),
    (Fault::LostAnswer, "lost answer"),
    (Fault::Outage, "API outage"),
    (Fault::TwoLeaders, "two leaders"),
    (Fault::PowerCut, "power cut"),
    (Fault::LostDisk, "lost disk"),
    (Fault::StaysDown, "node stays down"),
    (Fault::ClockJump, "clock jump"),
    (Fault::SlowKernel, "slow kernel"),
    (Fault::RefusingKernel, "refusing kernel"),
    (Fault::ArgumentsIgnored, "arguments ignored"),
    (Fault::FirmwareIgnored, "firmware ignores a write"),
    (Fault::RebootIgnored, "reboot ignored"),
    (Fault::StuckBudget, "stuck budget"),
    (Fault::UserMeddles, "meddling user"),
    (Fault::PodAdmitted, "pod admitted"),
];

impl Fault {
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(fault, _)| *fault)
    }

    /// The fault of this name.
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, other)| *other == name).map(|(fault, _)| *fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(fault, _)| fault == self).map(|(_, name)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

/// How often each fault fired and mattered in one run.
#[derive(Debug, Clone, Default)]
pub struct FaultCounts(pub BTreeMap<Fault, Count>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub fired: u32,
    pub mattered: u32,
}

impl FaultCounts {
    pub fn fired(&mut self, fault: Fault, mattered: bool) {
        let count = self.0.entry(fault).or_default();
        count.fired += 1;
        count.mattered += u32::from(mattered);
    }

    pub fn mattered(&mut self, fault: Fault) {
        self.0.entry(fault).or_default().mattered += 1;
    }
}
