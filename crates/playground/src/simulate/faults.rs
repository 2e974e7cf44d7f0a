//! What the seed may do to the world, and how often it did.

use std::collections::BTreeMap;
use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The daemon dies before or after the k-th primitive of a step.
    CrashAtPrimitive,
    /// The operator dies between two writes of a step.
    CrashBetweenWrites,
    /// Events of a watch are lost; the process lists again later.
    LostWatch,
    /// Events of a watch arrive late.
    LateWatch,
    /// A write is answered with a conflict and did not take place.
    Conflict,
    /// A write took place and the answer was lost.
    LostAnswer,
    /// The API answers nobody for a while.
    Outage,
    /// A machine loses its power.
    PowerCut,
}

impl Fault {
    pub const ALL: [Self; 8] = [
        Self::CrashAtPrimitive,
        Self::CrashBetweenWrites,
        Self::LostWatch,
        Self::LateWatch,
        Self::Conflict,
        Self::LostAnswer,
        Self::Outage,
        Self::PowerCut,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CrashAtPrimitive => "crash at a primitive",
            Self::CrashBetweenWrites => "crash between writes",
            Self::LostWatch => "lost watch event",
            Self::LateWatch => "late watch event",
            Self::Conflict => "conflict",
            Self::LostAnswer => "lost answer",
            Self::Outage => "API outage",
            Self::PowerCut => "power cut",
        })
    }
}

/// How often each fault fired in one run.
#[derive(Debug, Clone, Default)]
pub struct FaultCounts(pub BTreeMap<Fault, u32>);

impl FaultCounts {
    pub fn fired(&mut self, fault: Fault) {
        *self.0.entry(fault).or_default() += 1;
    }
}
