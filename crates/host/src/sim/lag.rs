//! RoCE LAG of mlx5: the legs of one card in one bond share one RDMA device, while none of them has VFs.
//!
//! drivers/net/ethernet/mellanox/mlx5/core/lag/lag.c: mlx5_do_bond takes the RDMA devices of all legs away and makes one
//! below the first; mlx5_lag_check_prereq ends it as soon as a leg in legacy mode has VFs. What LAG becomes in switchdev
//! mode (VF LAG) is not played: there each leg has its own device (belief).

use super::drivers::driver;
use super::machine::{HOST_NAMESPACE, Machine};
use api::{EswitchMode, PciAddress};
use std::collections::BTreeMap;

/// drivers/infiniband/hw/mlx5/main.c, mlx5_ib_stage_ib_reg_init.
const PREFIX: &str = "mlx5_bond_";

impl Machine {
    /// Brings the RDMA devices of mlx5 ports in bonds to what the driver makes of them now.
    pub(super) fn settle_lags(&mut self) {
        let mut bonds: BTreeMap<(u64, PciAddress), Vec<PciAddress>> = BTreeMap::new();
        for link in self.links.values().filter(|link| link.namespace == HOST_NAMESPACE) {
            let (Some(master), Some(pci)) = (link.master, link.parent) else { continue };
            let is_bond =
                self.links.get(&master).is_some_and(|m| m.kind.as_deref() == Some("bond"));
            let is_mlx5 = self.driver_of(Some(&pci)).is_some_and(|row| row.name == "mlx5_core");
            let is_ethernet = self.physical(&pci).is_some_and(|part| !part.infiniband);
            if is_bond && is_mlx5 && is_ethernet && link.represents.is_none() {
                let card = PciAddress { function: 0, ..pci };
                bonds.entry((master, card)).or_default().push(pci);
            }
        }
        for legs in bonds.values_mut().filter(|legs| legs.len() > 1) {
            legs.sort();
            let quiet = |pci: &PciAddress| {
                self.physical(pci)
                    .is_some_and(|part| part.num_vfs == 0 && part.eswitch == EswitchMode::Legacy)
            };
            let wanted = legs.iter().all(quiet);
            let names = |pci: &PciAddress| self.rdma_of(pci).map(|(_, device)| device.name.clone());
            let stands = names(&legs[0]).is_some_and(|name| name.starts_with(PREFIX));
            if wanted != stands {
                self.make_rdma_of_legs(legs, wanted);
            }
        }
    }

    fn make_rdma_of_legs(&mut self, legs: &[PciAddress], joined: bool) {
        self.rdma.devices.retain(|_, device| !legs.contains(&device.parent));
        let Some(row) = driver("mlx5_core") else { return };
        match joined {
            true => self.make_rdma_device_named(&legs[0], PREFIX),
            false => legs.iter().for_each(|leg| self.make_rdma_device(leg, row)),
        }
    }
}
