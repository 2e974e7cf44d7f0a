//! The drivers that the machine knows, as table rows, and which devices each one claims.

use super::machine::{Function, FunctionKind};

/// What a driver makes of a function it binds.
pub(super) struct DriverRow {
    pub name: &'static str,
    /// Its module in `/proc/modules`.
    pub module: &'static str,
    /// Makes a network interface.
    pub netdev: bool,
    /// Makes an RDMA device, named with this prefix and the lowest free number.
    pub rdma: Option<&'static str>,
    /// Implements `sriov_configure`.
    pub sriov: bool,
    /// Has an embedded switch for devlink.
    pub eswitch: bool,
    pub max_mtu: u32,
    /// Which settings of a VF its PF takes.
    pub vf: VfRules,
}

/// Settings of a VF that a PF's driver takes beyond MAC, VLAN, spoof check, trust and maximum rate.
pub(super) struct VfRules {
    pub any: bool,
    pub link_state: bool,
    pub min_rate: bool,
    pub service_vlan: bool,
    /// Spoof check is on in a new VF.
    pub spoof_check: bool,
}

const NONE: VfRules = VfRules {
    any: false,
    link_state: false,
    min_rate: false,
    service_vlan: false,
    spoof_check: false,
};
const ALL: VfRules = VfRules {
    any: true,
    link_state: true,
    min_rate: true,
    service_vlan: false,
    spoof_check: false,
};

/// ice makes its VFs with spoof check on (ice_sriov.c, ice_initialize_vf_entry).
const ICE: VfRules =
    VfRules { any: true, link_state: true, min_rate: true, service_vlan: false, spoof_check: true };

/// igb makes its VFs with spoof check on (lab), and refuses link state (EOPNOTSUPP), a minimum rate (EINVAL) and
/// 802.1ad (EPROTONOSUPPORT): lab.md section 2.
const IGB: VfRules = VfRules {
    any: true,
    link_state: false,
    min_rate: false,
    service_vlan: false,
    spoof_check: true,
};

/// netdevsim takes everything, 802.1ad too (drivers/net/netdevsim/netdev.c, nsim_set_vf_vlan; lab).
const NETDEVSIM: VfRules =
    VfRules { any: true, link_state: true, min_rate: true, service_vlan: true, spoof_check: false };

pub(super) const DRIVERS: [DriverRow; 9] = [
    // Which settings mlx5 and ice take: belief, read in the drivers' net_device_ops; not seen in the lab.
    row("mlx5_core", "mlx5_core", true, Some("mlx5_"), true, true, 9978, ALL),
    row("ice", "ice", true, Some("irdma"), true, true, 9702, ICE),
    row("iavf", "iavf", true, None, false, false, 9710, NONE),
    row("igb", "igb", true, None, true, false, 9216, IGB),
    row("netdevsim", "netdevsim", true, None, true, true, 65535, NETDEVSIM),
    row("igbvf", "igbvf", true, None, false, false, 9216, NONE),
    row("vfio-pci", "vfio_pci", false, None, false, false, 0, NONE),
    row("pcieport", "pcieport", false, None, false, false, 0, NONE),
    row("uio_pci_generic", "uio_pci_generic", false, None, false, false, 0, NONE),
];

#[allow(clippy::too_many_arguments)] // a table row
const fn row(
    name: &'static str,
    module: &'static str,
    netdev: bool,
    rdma: Option<&'static str>,
    sriov: bool,
    eswitch: bool,
    max_mtu: u32,
    vf: VfRules,
) -> DriverRow {
    DriverRow { name, module, netdev, rdma, sriov, eswitch, max_mtu, vf }
}

pub(super) fn driver(name: &str) -> Option<&'static DriverRow> {
    DRIVERS.iter().find(|row| row.name == name)
}

/// The driver whose id table has this function; vfio-pci and uio have none and need `driver_override`.
pub(super) fn claimed_by(function: &Function) -> Option<&'static DriverRow> {
    if matches!(function.kind, FunctionKind::Bridge) {
        return driver("pcieport");
    }
    let name = match (function.vendor.as_str(), function.device.as_str()) {
        ("15b3", _) => "mlx5_core",
        ("8086", "1592" | "1593" | "159b") => "ice",
        ("8086", "1889") => "iavf",
        ("8086", "10c9" | "1533") => "igb",
        ("8086", "10ca") => "igbvf",
        super::build::NETDEVSIM => "netdevsim",
        _ => return None,
    };
    driver(name)
}
