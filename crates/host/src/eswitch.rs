//! The mode of a card's embedded switch, by devlink.

use crate::function::{self, FactError};
use crate::seam::{Changed, DevlinkChange, DevlinkDevice, Host, Refusal};
use api::{EswitchMode, PciAddress};
use rustix::io::Errno;
use thiserror::Error;

/// ENODEV: no devlink instance. EOPNOTSUPP: no switch. EPERM: the switch is not this function's to manage, as on the host
/// of a DPU (drivers/net/ethernet/mellanox/mlx5/core/eswitch.c, mlx5_eswitch_check before Linux 5.11).
const NO_SWITCH: [Errno; 4] = [Errno::NODEV, Errno::OPNOTSUPP, Errno::NOENT, Errno::PERM];

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EswitchError {
    #[error("{pf} cannot use {wanted}: its driver ({driver}) has no eswitch")]
    NoEswitch { pf: PciAddress, wanted: EswitchMode, driver: String },
    #[error("cannot set eswitch mode {wanted} on {pf}: {refusal}")]
    Refused { pf: PciAddress, wanted: EswitchMode, refusal: Refusal },
    #[error("{pf} has eswitch mode {found} after {wanted} was set")]
    NotTaken { pf: PciAddress, wanted: EswitchMode, found: EswitchMode },
    #[error(transparent)]
    Fact(#[from] FactError),
}

/// The mode. A card without a switch is what upstream calls legacy.
pub fn mode(host: &dyn Host, pf: &PciAddress) -> Result<EswitchMode, Refusal> {
    Ok(read(host, pf)?.unwrap_or_default())
}

/// Brings the card's switch to the mode.
pub fn set(host: &dyn Host, pf: &PciAddress, wanted: EswitchMode) -> Result<Changed, EswitchError> {
    let refused = |refusal| EswitchError::Refused { pf: *pf, wanted, refusal };
    let Some(current) = read(host, pf).map_err(refused)? else {
        // Devlink says the same of a card without a switch and of one that is not there.
        function::exists(host, pf)?;
        if wanted == EswitchMode::Legacy {
            return Ok(Changed::AlreadyRight);
        }
        let driver = function::driver(host, pf)
            .map_err(FactError::from)?
            .unwrap_or_else(|| "none".to_owned());
        return Err(EswitchError::NoEswitch { pf: *pf, wanted, driver });
    };
    if current == wanted {
        return Ok(Changed::AlreadyRight);
    }
    host.change_devlink(pf, &DevlinkChange::Eswitch(wanted)).map_err(refused)?;
    match read(host, pf).map_err(refused)?.unwrap_or_default() {
        found if found == wanted => Ok(Changed::Yes),
        found => Err(EswitchError::NotTaken { pf: *pf, wanted, found }),
    }
}

fn read(host: &dyn Host, pf: &PciAddress) -> Result<Option<EswitchMode>, Refusal> {
    Ok(devlink(host, pf)?.eswitch)
}

/// What devlink says of the card; nothing where its driver has no devlink or no switch. Any other refusal says nothing of
/// the mode: a card that was taken for a legacy one would lose its VFs.
pub fn devlink(host: &dyn Host, pf: &PciAddress) -> Result<DevlinkDevice, Refusal> {
    match host.devlink(pf) {
        Err(refusal) if NO_SWITCH.contains(&refusal.errno) => Ok(DevlinkDevice::default()),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, pf, worker};
    use expect_test::expect;

    #[test]
    fn a_switch_is_set_by_devlink_and_a_card_without_one_is_named_with_its_driver() {
        let igb = "0000:07:00.0".parse().unwrap();
        let mut out = testing::run_twice(worker(), |host| set(host, &pf(), EswitchMode::Switchdev));
        out.push_str(&testing::run(worker(), |host| set(host, &igb, EswitchMode::Legacy)));
        out.push_str(&testing::run(worker(), |host| set(host, &igb, EswitchMode::Switchdev)));
        expect![[r#"
            Yes
                devlink 0000:03:00.0: set eswitch mode switchdev
            AlreadyRight
            AlreadyRight
            0000:07:00.0 cannot use switchdev: its driver (igb) has no eswitch
        "#]]
        .assert_eq(&out);
    }

    #[test]
    fn from_every_crash_the_next_run_reaches_the_goal() {
        testing::crash_everywhere(worker(), |host| set(host, &pf(), EswitchMode::Switchdev));
    }
}
