//! Settings of a VF through its PF's interface: what each driver takes and shows.

use super::Fault;
use super::machine::{Machine, VfState};
use crate::seam::{VfLink, VfLinkState, VfSetting, Vlan};
use rustix::io::Errno;

impl Machine {
    /// One VF setting through the PF's interface (net/core/rtnetlink.c, do_setvfinfo, and the PF's driver).
    pub(super) fn set_vf(
        &mut self,
        space: u64,
        index: u32,
        vf: u32,
        setting: &VfSetting,
    ) -> Result<(), Errno> {
        let identity = self.link_by_index(space, index)?;
        let pci = self.links[&identity].parent.ok_or(Errno::OPNOTSUPP)?;
        let row = self.driver_of(Some(&pci)).ok_or(Errno::OPNOTSUPP)?;
        let ignores_mac = self.has(Fault::IgnoresVfMac);
        let ignores_port_guid = self.has(Fault::IgnoresVfPortGuid);
        let physical = self.physical_mut(&pci).ok_or(Errno::OPNOTSUPP)?;
        if !row.vf.any {
            return Err(Errno::OPNOTSUPP);
        }
        let (infiniband, speed) = (physical.infiniband, physical.speed);
        let state = physical.vfs.get_mut(&vf).ok_or(Errno::INVAL)?;
        match setting {
            VfSetting::Mac(_) | VfSetting::Vlan(_) if infiniband => return Err(Errno::OPNOTSUPP),
            VfSetting::Mac(mac) if mac[0] & 1 == 1 => return Err(Errno::INVAL),
            VfSetting::Mac(_) if ignores_mac => {}
            VfSetting::Mac(mac) => state.mac = *mac,
            VfSetting::Vlan(vlan) if vlan.id > 4094 || vlan.qos > 7 => return Err(Errno::INVAL),
            VfSetting::Vlan(vlan) if vlan.protocol != 0x8100 && !row.vf.service_vlan => {
                return Err(Errno::PROTONOSUPPORT);
            }
            VfSetting::Vlan(vlan) => {
                (state.vlan, state.qos, state.protocol) = (vlan.id, vlan.qos, vlan.protocol)
            }
            VfSetting::Rate { min, .. } if *min > 0 && !row.vf.min_rate => {
                return Err(Errno::INVAL);
            }
            VfSetting::Rate { min, max } if (*max != 0 && min > max) || *max > speed => {
                return Err(Errno::INVAL);
            }
            VfSetting::Rate { min, max } => (state.min_tx_rate, state.max_tx_rate) = (*min, *max),
            VfSetting::SpoofCheck(on) => state.spoof_check = *on,
            VfSetting::Trust(on) => state.trust = *on,
            VfSetting::LinkState(_) if !row.vf.link_state => return Err(Errno::OPNOTSUPP),
            VfSetting::LinkState(wanted) => {
                state.link_state = match wanted {
                    VfLinkState::Auto => 0,
                    VfLinkState::Enable => 1,
                    VfLinkState::Disable => 2,
                }
            }
            // ndo_set_vf_guid is IPoIB's alone (drivers/infiniband/ulp/ipoib/ipoib_main.c).
            VfSetting::NodeGuid(_) | VfSetting::PortGuid(_) if !infiniband => {
                return Err(Errno::OPNOTSUPP);
            }
            VfSetting::NodeGuid(guid) => state.node_guid = *guid,
            VfSetting::PortGuid(_) if ignores_port_guid => {}
            VfSetting::PortGuid(guid) => state.port_guid = *guid,
        }
        Ok(())
    }
}

pub(super) fn show_vf(index: u32, state: &VfState, infiniband: bool) -> VfLink {
    VfLink {
        index,
        mac: state.mac.to_vec(),
        vlan: Some(Vlan { id: state.vlan, qos: state.qos, protocol: state.protocol }),
        spoof_check: Some(state.spoof_check),
        trust: Some(state.trust),
        // A driver that tells none is shown as auto, which is zero (net/core/rtnetlink.c, rtnl_fill_vfinfo; lab).
        link_state: Some(match state.link_state {
            1 => VfLinkState::Enable,
            2 => VfLinkState::Disable,
            _ => VfLinkState::Auto,
        }),
        min_tx_rate: Some(state.min_tx_rate),
        max_tx_rate: Some(state.max_tx_rate),
        node_guid: infiniband.then_some(state.node_guid),
        port_guid: infiniband.then_some(state.port_guid),
    }
}
