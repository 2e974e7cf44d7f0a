//! The embedded switch and the parameters of a card, as devlink shows and changes them.

use super::FunctionKind;
use super::drivers::driver;
use super::machine::{Machine, PhysicalPart};
use crate::seam::{DevlinkChange, DevlinkDevice, DevlinkParameter};
use api::{EswitchMode, PciAddress};
use rustix::io::Errno;

impl Machine {
    /// A function whose driver registers no devlink instance is ENODEV (lab.md section 2: igb has none).
    pub(super) fn query_devlink(&self, pci: &PciAddress) -> Result<DevlinkDevice, Errno> {
        let physical = self.devlink_instance(pci)?;
        let Some(physical) = physical else { return Ok(DevlinkDevice::default()) };
        let parameters = physical.parameters.iter().flat_map(|(name, modes)| {
            modes.iter().map(|(mode, value)| DevlinkParameter {
                name: name.clone(),
                mode: mode.clone(),
                value: value.clone(),
            })
        });
        Ok(DevlinkDevice { eswitch: Some(physical.eswitch), parameters: parameters.collect() })
    }

    /// The PF behind the instance; None for a VF, which has an instance and no switch (belief).
    fn devlink_instance(&self, pci: &PciAddress) -> Result<Option<&PhysicalPart>, Errno> {
        let function = self.functions.get(pci).ok_or(Errno::NODEV)?;
        let row = function.driver.as_deref().and_then(driver).ok_or(Errno::NODEV)?;
        if !row.eswitch {
            return Err(Errno::NODEV);
        }
        Ok(match &function.kind {
            FunctionKind::Physical(part) => Some(part),
            _ => None,
        })
    }

    /// Without a switch EOPNOTSUPP (net/devlink/dev.c). An unknown parameter, a value of another type and a time that there
    /// is not are EINVAL, a time that the parameter has not is EOPNOTSUPP (net/devlink/param.c,
    /// __devlink_nl_cmd_param_set_doit; lab).
    pub(super) fn change_devlink(
        &mut self,
        pci: &PciAddress,
        change: &DevlinkChange,
    ) -> Result<(), Errno> {
        self.devlink_instance(pci)?.ok_or(Errno::OPNOTSUPP)?;
        match change {
            DevlinkChange::Eswitch(mode) => self.set_eswitch(pci, *mode),
            DevlinkChange::Parameter { name, mode, value } => {
                let physical = self.physical_mut(pci).ok_or(Errno::OPNOTSUPP)?;
                let modes = physical.parameters.get_mut(name).ok_or(Errno::INVAL)?;
                let is_time = ["runtime", "driverinit", "permanent"].contains(&mode.as_str());
                if !is_time || !modes.values().all(|held| is_of_its_type(held, value)) {
                    return Err(Errno::INVAL);
                }
                let held = modes.get_mut(mode).ok_or(Errno::OPNOTSUPP)?;
                *held = value.clone();
                let key = match name.as_str() {
                    "enable_sriov" => "SRIOV_EN",
                    "total_vfs" => "NUM_OF_VFS",
                    _ => return Ok(()),
                };
                let stored = match value.as_str() {
                    "true" => "True(1)",
                    "false" => "False(0)",
                    number => number,
                };
                if let Some(mut next) = physical.firmware.as_ref().map(|f| f.next.clone()) {
                    next.insert(key.to_owned(), stored.to_owned());
                    self.store_firmware(pci, &next);
                }
            }
        }
        Ok(())
    }

    fn set_eswitch(&mut self, pci: &PciAddress, mode: EswitchMode) {
        if self.physical(pci).is_none_or(|physical| physical.eswitch == mode) {
            return;
        }
        self.links.retain(|_, link| !(link.parent == Some(*pci) && link.represents.is_some()));
        if let Some(physical) = self.physical_mut(pci) {
            physical.eswitch = mode;
        }
        if !self.vfs_of(pci).is_empty() {
            self.make_representors(pci);
        }
        // drivers/net/ethernet/mellanox/mlx5/core/en_main.c, mlx5e_netdev_change_profile: the uplink's interface is taken
        // down and set up anew for its new role. The same of ice: belief. netdevsim leaves it alone (dev.c,
        // nsim_esw_switchdev_enable).
        if self.driver_of(Some(pci)).is_some_and(|row| row.name != "netdevsim") {
            self.flap(pci);
        }
        self.settle_lags();
    }
}

/// What is held tells a parameter's type: a flag, a number, or text, which takes anything.
fn is_of_its_type(held: &str, value: &str) -> bool {
    let is_flag = |text: &str| matches!(text, "true" | "false");
    match held {
        held if is_flag(held) => is_flag(value),
        held if held.parse::<u32>().is_ok() => value.parse::<u32>().is_ok(),
        _ => true,
    }
}
