//! What each change of a PF does to the PF's own interface: a table, driver by driver, each row with its source.
//!
//! Paths are of the Linux kernel's tree. A driver that nobody has read is taken to cut.

/// A change of a PF, as far as its own link may be concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Eswitch,
    VfCount {
        have: u32,
        wanted: u32,
    },
    Mtu,
    /// The PF itself is given to pods.
    Whole,
    /// A VF by which the host lives is taken from its driver or changed.
    Vf,
}

/// One PF, as far as the table looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link<'a> {
    pub driver: &'a str,
    /// The bond of the active RoCE LAG that it is a leg of.
    pub roce_lag: Option<&'a str>,
    /// A VF by which the host lives, in words.
    pub used_vf: Option<String>,
}

/// What a driver does to the PF's own interface when VFs are made, and when they are taken away; `None`: it stays up.
struct Row {
    driver: &'static str,
    made: Option<&'static str>,
    taken: Option<&'static str>,
}

const CLOSES: &str = "closes and opens the PF's own interface for it";
const RESETS: &str = "resets the PF for it";

#[rustfmt::skip]
const ROWS: [Row; 7] = [
    // drivers/net/ethernet/mellanox/mlx5/core/sriov.c, mlx5_core_sriov_configure: vports of the VFs, nothing of the PF's.
    Row { driver: "mlx5_core", made: None, taken: None },
    // drivers/net/ethernet/intel/ice/ice_sriov.c, ice_sriov_configure: VSIs of the VFs, no reset of the PF.
    Row { driver: "ice", made: None, taken: None },
    // drivers/virtio/virtio_pci_common.c, virtio_pci_sriov_configure: pci_enable_sriov and nothing else.
    Row { driver: "virtio-pci", made: None, taken: None },
    // drivers/net/ethernet/broadcom/bnxt/bnxt_sriov.c, bnxt_sriov_disable: bnxt_restore_pf_fw_resources closes the
    // interface, takes the interrupts back and opens it.
    Row { driver: "bnxt_en", made: None, taken: Some(CLOSES) },
    // drivers/net/ethernet/intel/igb/igb_main.c, igb_sriov_reinit.
    Row { driver: "igb", made: Some(CLOSES), taken: Some(CLOSES) },
    // drivers/net/ethernet/intel/ixgbe/ixgbe_sriov.c, ixgbe_pci_sriov_enable and _disable: ixgbe_sriov_reinit.
    Row { driver: "ixgbe", made: Some(CLOSES), taken: Some(CLOSES) },
    // drivers/net/ethernet/intel/i40e/i40e_virtchnl_pf.c, i40e_pci_sriov_configure: I40E_PF_RESET_AND_REBUILD_FLAG.
    Row { driver: "i40e", made: Some(RESETS), taken: Some(RESETS) },
];

/// What the change does to the host's connections, as the middle of a sentence; `None`: nothing.
pub(super) fn effect(change: Change, link: &Link<'_>) -> Option<String> {
    match change {
        Change::VfCount { have, wanted } if have == wanted => None,
        Change::VfCount { have, wanted } => vf_count(have, wanted, link),
        // drivers/net/ethernet/mellanox/mlx5/core/en_main.c, mlx5e_netdev_change_profile takes the uplink down and sets
        // it up anew; before kernel 5.12 the interface itself was destroyed and made again, without its addresses.
        // drivers/net/ethernet/intel/ice/ice_eswitch.c, ice_eswitch_setup_env takes the uplink's filters away;
        // drivers/net/ethernet/broadcom/bnxt/bnxt_vfr.c closes and opens it. No driver keeps it.
        Change::Eswitch => {
            Some(format!("{} sets the PF's own interface up anew for it", link.driver))
        }
        // Nearly every driver stops its queues for it, and where the switch does not carry such packets the host's own
        // large ones are lost from then on.
        Change::Mtu => Some("the host's own packets over it grow too".to_owned()),
        Change::Whole => Some("a pod that is given it takes its interface away".to_owned()),
        Change::Vf => {
            let vf = link.used_vf.as_deref().unwrap_or("a VF");
            Some(format!("it takes {vf} from the host"))
        }
    }
}

/// From one count to another the way leads through zero.
fn vf_count(have: u32, wanted: u32, link: &Link<'_>) -> Option<String> {
    if let Some(vf) = link.used_vf.as_deref().filter(|_| have > 0) {
        return Some(format!("it takes {vf} from the host"));
    }
    // drivers/net/ethernet/mellanox/mlx5/core/lag/lag.c, mlx5_lag_check_prereq: with VFs in legacy mode there is no RoCE LAG.
    if let Some(bond) = link.roce_lag.filter(|_| wanted > 0) {
        return Some(format!(
            "it ends the RoCE LAG of {bond}, whose RDMA device is taken away and made anew for each port"
        ));
    }
    let Some(row) = ROWS.iter().find(|row| row.driver == link.driver) else {
        return Some(match link.driver {
            "" => "it has no driver that could say whether its link stays up".to_owned(),
            driver => format!("it is not known whether {driver} keeps the link up for it"),
        });
    };
    let taken = row.taken.filter(|_| have > 0);
    let made = row.made.filter(|_| wanted > 0);
    taken.or(made).map(|what| format!("{} {what}", row.driver))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn what_each_driver_does_to_the_link_when_vfs_come_and_go() {
        let drivers = ROWS.iter().map(|row| row.driver).chain(["sfc", ""]);
        let mut text = String::new();
        for driver in drivers {
            for (have, wanted) in [(0, 4), (4, 0), (4, 8), (4, 4)] {
                let link = Link { driver, roce_lag: None, used_vf: None };
                let effect = effect(Change::VfCount { have, wanted }, &link);
                let effect = effect.unwrap_or("the link stays up".to_owned());
                text += &format!("{driver:10} {have} to {wanted}: {effect}\n");
            }
        }
        expect![[r#"
            mlx5_core  0 to 4: the link stays up
            mlx5_core  4 to 0: the link stays up
            mlx5_core  4 to 8: the link stays up
            mlx5_core  4 to 4: the link stays up
            ice        0 to 4: the link stays up
            ice        4 to 0: the link stays up
            ice        4 to 8: the link stays up
            ice        4 to 4: the link stays up
            virtio-pci 0 to 4: the link stays up
            virtio-pci 4 to 0: the link stays up
            virtio-pci 4 to 8: the link stays up
            virtio-pci 4 to 4: the link stays up
            bnxt_en    0 to 4: the link stays up
            bnxt_en    4 to 0: bnxt_en closes and opens the PF's own interface for it
            bnxt_en    4 to 8: bnxt_en closes and opens the PF's own interface for it
            bnxt_en    4 to 4: the link stays up
            igb        0 to 4: igb closes and opens the PF's own interface for it
            igb        4 to 0: igb closes and opens the PF's own interface for it
            igb        4 to 8: igb closes and opens the PF's own interface for it
            igb        4 to 4: the link stays up
            ixgbe      0 to 4: ixgbe closes and opens the PF's own interface for it
            ixgbe      4 to 0: ixgbe closes and opens the PF's own interface for it
            ixgbe      4 to 8: ixgbe closes and opens the PF's own interface for it
            ixgbe      4 to 4: the link stays up
            i40e       0 to 4: i40e resets the PF for it
            i40e       4 to 0: i40e resets the PF for it
            i40e       4 to 8: i40e resets the PF for it
            i40e       4 to 4: the link stays up
            sfc        0 to 4: it is not known whether sfc keeps the link up for it
            sfc        4 to 0: it is not known whether sfc keeps the link up for it
            sfc        4 to 8: it is not known whether sfc keeps the link up for it
            sfc        4 to 4: the link stays up
                       0 to 4: it has no driver that could say whether its link stays up
                       4 to 0: it has no driver that could say whether its link stays up
                       4 to 8: it has no driver that could say whether its link stays up
                       4 to 4: the link stays up
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn vfs_end_a_roce_lag_and_their_end_does_not() {
        let link = Link { driver: "mlx5_core", roce_lag: Some("bond0"), used_vf: None };
        let said = |have, wanted| effect(Change::VfCount { have, wanted }, &link);
        assert_eq!(said(4, 0), None);
        expect!["it ends the RoCE LAG of bond0, whose RDMA device is taken away and made anew for each port"].assert_eq(&said(0, 4).unwrap());
    }

    #[test]
    fn a_vf_that_the_host_uses_is_not_taken_whatever_the_driver() {
        let used_vf = Some("VF 1 (enp3s0f0v1)".to_owned());
        let link = Link { driver: "mlx5_core", roce_lag: None, used_vf };
        expect!["it takes VF 1 (enp3s0f0v1) from the host"]
            .assert_eq(&effect(Change::VfCount { have: 2, wanted: 4 }, &link).unwrap());
    }
}
