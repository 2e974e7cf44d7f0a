//! The settings of a VF while nobody uses it: what it was configured to, and what its driver gives to a new VF.
//!
//! The daemon offers a VF together with its profile. Whoever gives it to a pod brings it there first, and back there after.

use crate::desired::DesiredFunction;
use crate::guids::NO_GUID;
use api::inventory::{PhysicalFunction, VirtualFunction};
use api::journal::{LinkState, Rate, VfProfile, VlanTag};
use api::{EswitchMode, LinkType};

/// Whether a new VF has its spoof check on, by the driver of its PF; what is not here is not known.
///
/// igb_main.c `igb_vf_configuration` and ixgbe_sriov.c `__ixgbe_enable_sriov` switch it on, as do i40e_virtchnl_pf.c
/// `i40e_alloc_vfs` and ice_sriov.c `ice_initialize_vf_entry`; mlx5 (eswitch.c, `mlx5_eswitch_clear_vf_vports_info`) begins
/// with zeros.
const SPOOF_CHECK: [(&str, bool); 5] =
    [("i40e", true), ("ice", true), ("igb", true), ("ixgbe", true), ("mlx5_core", false)];

/// The profile of a VF of ours.
///
/// None where its settings are somebody else's (`externallyManaged`), and where its representor has them (switchdev). The
/// MAC is the one that its driver started with, which the PF held for it then: what the PF holds now may be anybody's. A
/// setting that a driver does not take or tell is nobody's either; that is known only where it is read.
///
/// InfiniBand has GUIDs in the place of all that: node and port GUID are one, that of the RDMA device which its driver has
/// started. In user space there is none, and what the PF holds is all that is known.
pub fn golden(
    wanted: &DesiredFunction,
    pf: &PhysicalFunction,
    vf: &VirtualFunction,
) -> Option<VfProfile> {
    if wanted.externally_managed || pf.eswitch != EswitchMode::Legacy {
        return None;
    }
    match pf.link_type? {
        LinkType::Ethernet => Some(on_ethernet(pf, vf)),
        LinkType::Infiniband => {
            let known = vf.guid.as_ref().or(vf.admin_guid.as_ref()).filter(|guid| *guid != NO_GUID);
            Some(VfProfile { guid: known.map(|guid| in_bytes(guid)), ..VfProfile::default() })
        }
    }
}

fn on_ethernet(pf: &PhysicalFunction, vf: &VirtualFunction) -> VfProfile {
    let driver = pf.driver.as_deref();
    let spoof_check = SPOOF_CHECK.iter().find(|(name, _)| driver == Some(*name));
    VfProfile {
        mac: vf.permanent_mac.clone(),
        vlan: Some(VlanTag { id: 0, qos: 0, protocol: 0x8100 }),
        rate: Some(Rate { min: 0, max: 0 }),
        spoof_check: spoof_check.map(|(_, on)| *on),
        trust: Some(false),
        link_state: Some(LinkState::Auto),
        guid: None,
    }
}

/// `0011:2233:4455:6677` as `00:11:22:33:44:55:66:77`.
fn in_bytes(guid: &str) -> String {
    let digits: Vec<char> = guid.chars().filter(|digit| *digit != ':').collect();
    let bytes: Vec<String> = digits.chunks(2).map(|byte| byte.iter().collect()).collect();
    bytes.join(":")
}
