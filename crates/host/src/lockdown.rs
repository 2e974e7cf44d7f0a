//! Kernel lockdown: whether it is on, and whether it may be what an operation was refused for.
//!
//! Such a kernel takes signed modules only, and lets nobody write a card's PCI configuration or reach its memory
//! (security/security.c, lockdown_reasons). Of itself it says no more than that this is not permitted.

use crate::driver_bind::DriverError;
use crate::facilities::VhostError;
use crate::firmware::FirmwareError;
use crate::function::optional;
use crate::rdma_reload::ReloadError;
use crate::seam::{Errno, Host, Refusal, words};

/// True when the kernel is locked down (`[integrity]` or `[confidentiality]`).
pub fn is_on(host: &dyn Host) -> Result<bool, Refusal> {
    let text = optional(host.read("/sys/kernel/security/lockdown"))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(text.contains("[integrity]") || text.contains("[confidentiality]"))
}

/// What the kernel answers under lockdown, and without it to whoever lacks a right or a signature: EPERM for all,
/// EKEYREJECTED and ENOKEY for a module.
const DENIALS: [Errno; 3] = [Errno::PERM, Errno::KEYREJECTED, Errno::NOKEY];

/// An error of the operations that a locked-down kernel may refuse: those that load modules or set a card's firmware.
pub trait Denied {
    fn is_denied(&self) -> bool;
}

impl Denied for Refusal {
    fn is_denied(&self) -> bool {
        DENIALS.contains(&self.errno)
    }
}

/// modprobe and mstconfig tell the errno that they got in the words of the C library, and in no other way.
fn tells_denial(said: &str) -> bool {
    let said = said.to_lowercase();
    DENIALS.iter().any(|errno| said.contains(&words(*errno)))
}

impl Denied for DriverError {
    fn is_denied(&self) -> bool {
        match self {
            Self::NoModule { reason, .. } | Self::NoModuleForIt { reason, .. } => {
                tells_denial(reason)
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
            Self::Stays { said, .. } => tells_denial(said),
            Self::NotLoaded { said } => said.iter().any(|said| tells_denial(said)),
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
        tells_denial(&self.why)
    }
}

impl Denied for FirmwareError {
    fn is_denied(&self) -> bool {
        match self {
            Self::Refused { why, .. } => tells_denial(why),
            Self::NotTaken { .. } => false,
        }
    }
}
