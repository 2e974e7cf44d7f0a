//! The settings of a VF while nobody uses it: what it was configured to, and what its driver gives to a new VF.
//!
//! The daemon offers a VF together with its profile. Whoever gives it to a pod brings it there first, and back there after.

use crate::desired::DesiredFunction;
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
/// None where its settings are somebody else's (`externallyManaged`), where its representor has them (switchdev), and on
/// InfiniBand, which has none of them. The MAC is the one that its driver started with, which the PF held for it then: what
/// the PF holds now may be anybody's. A setting that a driver does not take or tell is nobody's either; that is known only
/// where it is read.
pub fn golden(
    wanted: &DesiredFunction,
    pf: &PhysicalFunction,
    vf: &VirtualFunction,
) -> Option<VfProfile> {
    let legacy = (pf.eswitch, pf.link_type) == (EswitchMode::Legacy, Some(LinkType::Ethernet));
    if wanted.externally_managed || !legacy {
        return None;
    }
    let driver = pf.driver.as_deref();
    let spoof_check = SPOOF_CHECK.iter().find(|(name, _)| driver == Some(*name));
    Some(VfProfile {
        mac: vf.permanent_mac.clone(),
        vlan: Some(VlanTag { id: 0, qos: 0, protocol: 0x8100 }),
        rate: Some(Rate { min: 0, max: 0 }),
        spoof_check: spoof_check.map(|(_, on)| *on),
        trust: Some(false),
        link_state: Some(LinkState::Auto),
        guid: None,
    })
}
