//! The lock of one device, held by the daemon while it changes the device and by the CNI during ADD and DEL.

use crate::seam::{Host, Lock, Refusal};
use api::{PciAddress, files};
use rustix::io::Errno;
use std::time::Duration;
use thiserror::Error;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LockError {
    #[error("{device} is being changed by somebody else since {} s; trying again later", .waited.as_secs())]
    Held { device: PciAddress, waited: Duration },
    #[error("cannot {0}")]
    Refused(Refusal),
}

/// Takes the lock, waiting up to `timeout`. The kernel gives it back when the holder dies.
pub fn take(host: &dyn Host, device: &PciAddress, timeout: Duration) -> Result<Lock, LockError> {
    host.lock(&format!("{}/{device}", files::VF_LOCKS), timeout).map_err(|refusal| {
        match refusal.errno {
            Errno::TIMEDOUT => LockError::Held { device: *device, waited: timeout },
            _ => LockError::Refused(refusal),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::SimHost;
    use crate::testing::worker;

    #[test]
    fn a_device_has_one_holder() {
        let host = SimHost::new(worker());
        let device = "0000:03:00.2".parse().unwrap();
        let held = take(&host, &device, Duration::ZERO).unwrap();
        let refused = take(&host.process(), &device, Duration::from_secs(5)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "0000:03:00.2 is being changed by somebody else since 5 s; trying again later"
        );
        drop(held);
        assert!(take(&host, &device, Duration::ZERO).is_ok());
    }
}
