//! The fixed set of words that say why: condition reason, event reason and metric label in one.
//!
//! People's alerts match on these, so a word never changes its meaning; sentences live in `Blocker` and `Problem`.

use std::fmt;

/// Why something waits, was refused, or is not as asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    // Waiting, with an end in sight.
    DeviceHeld,
    DisruptionBudget,
    PoolLimit,
    WaitingForDrain,
    WaitingForWithdrawal,
    WaitingForAllocatable,
    WaitingForFence,
    WaitingForReboot,
    ReloadRefused,
    ControlPlaneBusy,
    PodTerminating,
    KernelBusy,
    WaitingForCanary,
    MachineConfigUpdating,
    // Waiting for a person.
    Paused,
    PausedAfterCanary,
    RolloutHalted,
    DrainDeadline,
    DrainSkipped,
    DrainDisabled,
    EvictionRefused,
    FenceMissing,
    NoPlaceForOperator,
    MachineConfigUnknown,
    PoolInvalid,
    TwoPools,
    NodeNotReady,
    ExternalDrainer,
    MissingCard,
    UnreadableCard,
    SriovDisabled,
    VfLimit,
    Lifeline,
    ExternallyManaged,
    Lockdown,
    FirmwareToolMissing,
    FirmwareUnreadable,
    FirmwareRefused,
    FirmwareWritesDisabled,
    DpuMode,
    InvalidGuidFile,
    GuidNotTaken,
    NoLever,
    KernelArgumentContradicts,
    RdmaNotLoaded,
    RebootDidNotHelp,
    RebootDidNotHappen,
    TooManyReboots,
    RebootDisabled,
    LedgerNotWritten,
    Unsupported,
    // What is wrong with an object.
    InvalidPolicy,
    InvalidPool,
    InvalidNetwork,
    InvalidNodeState,
    Conflict,
    NothingSelected,
    AddressRangeShared,
    RdmaModeMismatch,
    NetworkNotFound,
    ResourceNotRequested,
    ResourceWithoutNetwork,
    ResourceNotOffered,
    NotEnoughDevices,
    WrongNamespace,
    NotTested,
}

impl Reason {
    /// The word, in UpperCamelCase as Kubernetes asks of a condition's reason.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeviceHeld => "DeviceHeld",
            Self::DisruptionBudget => "DisruptionBudget",
            Self::PoolLimit => "PoolLimit",
            Self::WaitingForDrain => "WaitingForDrain",
            Self::WaitingForWithdrawal => "WaitingForWithdrawal",
            Self::WaitingForAllocatable => "WaitingForAllocatable",
            Self::WaitingForFence => "WaitingForFence",
            Self::WaitingForReboot => "WaitingForReboot",
            Self::ReloadRefused => "ReloadRefused",
            Self::ControlPlaneBusy => "ControlPlaneBusy",
            Self::PodTerminating => "PodTerminating",
            Self::KernelBusy => "KernelBusy",
            Self::WaitingForCanary => "WaitingForCanary",
            Self::MachineConfigUpdating => "MachineConfigUpdating",
            Self::MachineConfigUnknown => "MachineConfigUnknown",
            Self::Paused => "Paused",
            Self::PausedAfterCanary => "PausedAfterCanary",
            Self::RolloutHalted => "RolloutHalted",
            Self::DrainDeadline => "DrainDeadline",
            Self::DrainSkipped => "DrainSkipped",
            Self::DrainDisabled => "DrainDisabled",
            Self::EvictionRefused => "EvictionRefused",
            Self::FenceMissing => "FenceMissing",
            Self::NoPlaceForOperator => "NoPlaceForOperator",
            Self::PoolInvalid => "PoolInvalid",
            Self::TwoPools => "TwoPools",
            Self::NodeNotReady => "NodeNotReady",
            Self::ExternalDrainer => "ExternalDrainer",
            Self::MissingCard => "MissingCard",
            Self::UnreadableCard => "UnreadableCard",
            Self::SriovDisabled => "SriovDisabled",
            Self::VfLimit => "VfLimit",
            Self::Lifeline => "Lifeline",
            Self::ExternallyManaged => "ExternallyManaged",
            Self::Lockdown => "Lockdown",
            Self::FirmwareToolMissing => "FirmwareToolMissing",
            Self::FirmwareUnreadable => "FirmwareUnreadable",
            Self::FirmwareRefused => "FirmwareRefused",
            Self::FirmwareWritesDisabled => "FirmwareWritesDisabled",
            Self::DpuMode => "DpuMode",
            Self::InvalidGuidFile => "InvalidGuidFile",
            Self::GuidNotTaken => "GuidNotTaken",
            Self::NoLever => "NoLever",
            Self::KernelArgumentContradicts => "KernelArgumentContradicts",
            Self::RdmaNotLoaded => "RdmaNotLoaded",
            Self::RebootDidNotHelp => "RebootDidNotHelp",
            Self::RebootDidNotHappen => "RebootDidNotHappen",
            Self::TooManyReboots => "TooManyReboots",
            Self::RebootDisabled => "RebootDisabled",
            Self::LedgerNotWritten => "LedgerNotWritten",
            Self::Unsupported => "Unsupported",
            Self::InvalidPolicy => "InvalidPolicy",
            Self::InvalidPool => "InvalidPool",
            Self::InvalidNetwork => "InvalidNetwork",
            Self::InvalidNodeState => "InvalidNodeState",
            Self::Conflict => "Conflict",
            Self::NothingSelected => "NothingSelected",
            Self::AddressRangeShared => "AddressRangeShared",
            Self::RdmaModeMismatch => "RdmaModeMismatch",
            Self::NetworkNotFound => "NetworkNotFound",
            Self::ResourceNotRequested => "ResourceNotRequested",
            Self::ResourceWithoutNetwork => "ResourceWithoutNetwork",
            Self::ResourceNotOffered => "ResourceNotOffered",
            Self::NotEnoughDevices => "NotEnoughDevices",
            Self::WrongNamespace => "WrongNamespace",
            Self::NotTested => "NotTested",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something wrong with an object that a user wrote: a value in that object's status, never an abort.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{object}: {message}")]
pub struct Problem {
    pub reason: Reason,
    /// The object as the user knows it: `policy train`.
    pub object: String,
    /// Field, value, and the way out; lower case, no full stop.
    pub message: String,
}

impl Problem {
    pub fn new(reason: Reason, object: &str, message: impl Into<String>) -> Self {
        Self { reason, object: object.to_owned(), message: message.into() }
    }
}
