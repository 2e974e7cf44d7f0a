//! Kernel lockdown: whether it is on, and whether it may be what an operation was refused for.
//!
//! Such a kernel takes signed modules only, and lets nobody write a card's PCI configuration or reach its memory
//! (security/security.c, lockdown_reasons). Of itself it says no more than that this is not permitted.

use crate::driver_bind::DriverError;
use crate::facilities::VhostError;
use crate::firmware::FirmwareError;
use crate::function::optional;
use crate::program_error::ProgramError;
use crate::rdma_reload::ReloadError;
use crate::seam::{Errno, Host, Refusal};

/// True when the kernel is locked down (`[integrity]` or `[confidentiality]`).
pub fn is_on(host: &dyn Host) -> Result<bool, Refusal> {
    let text = optional(host.read("/sys/kernel/security/lockdown"))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(text.contains("[integrity]") || text.contains("[confidentiality]"))
}

/// An error of the operations that a locked-down kernel may refuse: those that load modules or set a card's firmware.
pub trait Denied {
    fn is_denied(&self) -> bool;
}

/// EPERM, under lockdown and without it to whoever lacks a right.
impl Denied for Refusal {
    fn is_denied(&self) -> bool {
        self.errno == Errno::PERM
    }
}

impl Denied for ProgramError {
    fn is_denied(&self) -> bool {
        match self {
            Self::NotPermitted(_) => true,
            Self::Kernel(refusal) => refusal.is_denied(),
            Self::NotThere(_) | Self::Failed(_) => false,
        }
    }
}

impl Denied for DriverError {
    fn is_denied(&self) -> bool {
        match self {
            Self::NoModule { reason, .. } | Self::NoModuleForIt { reason, .. } => {
                reason.is_denied()
            }
            Self::CannotUnbind { refusal, .. } | Self::CannotBind { refusal, .. } => {
                refusal.is_denied()
            }
            Self::StillBound { .. }
            | Self::NobodyTookIt { .. }
            | Self::NoInterface { .. }
            | Self::OtherMac { .. }
            | Self::NotTaken { .. }
            | Self::NoIommu { .. }
            | Self::Fact(_) => false,
        }
    }
}

impl Denied for ReloadError {
    fn is_denied(&self) -> bool {
        match self {
            Self::Stays { said, .. } => said.is_denied(),
            Self::NotLoaded { said } => said.iter().any(Denied::is_denied),
            Self::Refused(refusal) => refusal.is_denied(),
            Self::InUse { .. }
            | Self::Unexpected { .. }
            | Self::NotTaken { .. }
            | Self::Garbled { .. } => false,
        }
    }
}

impl Denied for VhostError {
    fn is_denied(&self) -> bool {
        self.why.is_denied()
    }
}

impl Denied for FirmwareError {
    fn is_denied(&self) -> bool {
        match self {
            Self::Refused { why, .. } => why.is_denied(),
            Self::NotTaken { .. } => false,
        }
    }
}
