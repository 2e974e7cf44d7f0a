//! Settings of a VF that the daemon makes through its PF: the admin MAC, node and port GUID.
//!
//! The VF is named by PF and index, because it may have no driver yet. What the CNI sets for a pod, and puts back, is
//! `vf_profile`'s.

use crate::function::{self, FactError};
use crate::guid::{NODE, PORT};
use crate::home::interface_at_home;
use crate::seam::{Changed, Host, LinkChange, LinkQuery, Namespace, Refusal, VfLink, VfSetting};
use crate::vf_profile::{self, VfIdentity, VfProfileError};
use api::PciAddress;
use api::journal::VfProfile;
use thiserror::Error;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VfSettingError {
    #[error(transparent)]
    Profile(#[from] VfProfileError),
    #[error(transparent)]
    Fact(#[from] FactError),
    #[error("{text:?} is not a GUID; write 0011:2233:4455:6677 or 00:11:22:33:44:55:66:77")]
    NotAGuid { text: String },
    #[error(
        "cannot set GUID {guid} on VF {vf} of {pf}: zeros and ones alone mean that there is none"
    )]
    NoGuid { pf: PciAddress, vf: u32, guid: String },
    #[error("cannot set GUID {guid} on VF {vf} of {pf}: {refusal}")]
    GuidRefused { pf: PciAddress, vf: u32, guid: String, refusal: Refusal },
    #[error("VF {vf} of {pf} has {what} {found} after {guid} was set")]
    GuidNotTaken { pf: PciAddress, vf: u32, guid: String, what: &'static str, found: String },
}

/// Sets the MAC that the PF holds for the VF, and reads it back. A driver takes it at its next probe.
pub fn set_mac(
    host: &dyn Host,
    pf: &PciAddress,
    vf: u32,
    mac: &str,
) -> Result<Changed, VfSettingError> {
    let wanted = VfProfile { mac: Some(mac.to_lowercase()), ..VfProfile::default() };
    set(host, pf, vf, &wanted)
}

/// Brings every setting that `wanted` names to its value.
pub fn set(
    host: &dyn Host,
    pf: &PciAddress,
    vf: u32,
    wanted: &VfProfile,
) -> Result<Changed, VfSettingError> {
    let pci = function::vf(host, pf, vf)?;
    let identity = VfIdentity { pci, pf: *pf, index: vf };
    Ok(vf_profile::apply(host, &identity, wanted)?)
}

/// Sets node and port GUID of the VF, and reads them back where the driver shows them. A driver takes them at its next
/// probe.
pub fn set_guid(
    host: &dyn Host,
    pf: &PciAddress,
    vf: u32,
    guid: &str,
) -> Result<Changed, VfSettingError> {
    let wanted =
        parse_guid(guid).ok_or_else(|| VfSettingError::NotAGuid { text: guid.to_owned() })?;
    if wanted == 0 || wanted == u64::MAX {
        return Err(VfSettingError::NoGuid { pf: *pf, vf, guid: guid.to_owned() });
    }
    let (link, before) = look(host, pf, vf)?;
    if (before.node_guid, before.port_guid) == (Some(wanted), Some(wanted)) {
        return Ok(Changed::AlreadyRight);
    }
    for setting in [VfSetting::NodeGuid(wanted), VfSetting::PortGuid(wanted)] {
        let change = LinkChange::Vf { link, vf, setting };
        host.change_link(&Namespace::Host, &change).map_err(|refusal| {
            VfSettingError::GuidRefused { pf: *pf, vf, guid: guid.to_owned(), refusal }
        })?;
    }
    let (_, after) = look(host, pf, vf)?;
    // The subnet manager goes by the port's. What a driver does not tell is believed.
    for (what, found) in [(NODE, after.node_guid), (PORT, after.port_guid)] {
        if let Some(found) = found.filter(|found| *found != wanted) {
            let (guid, found) = (guid.to_owned(), show_guid(found));
            return Err(VfSettingError::GuidNotTaken { pf: *pf, vf, guid, what, found });
        }
    }
    Ok(Changed::Yes)
}

/// The PF's interface, and the VF as it shows it.
fn look(host: &dyn Host, pf: &PciAddress, vf: u32) -> Result<(u32, VfLink), VfSettingError> {
    let missing = VfProfileError::NoPfLink { pf: *pf, index: vf };
    let Some(link) = interface_at_home(host, pf).map_err(FactError::from)? else {
        return Err(missing.into());
    };
    let query = LinkQuery { index: Some(link.index), with_vfs: true, ..LinkQuery::default() };
    let links = host.links(&Namespace::Host, &query).map_err(FactError::from)?;
    let found = links.into_iter().flat_map(|link| link.vfs).find(|found| found.index == vf);
    Ok((link.index, found.ok_or(missing)?))
}

/// Eight bytes with colons, in pairs of one or of two.
pub fn parse_guid(text: &str) -> Option<u64> {
    let parts: Vec<&str> = text.split(':').collect();
    let digits = match parts.len() {
        4 => 4,
        8 => 2,
        _ => return None,
    };
    let plain =
        |part: &&str| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    parts.iter().all(plain).then(|| u64::from_str_radix(&parts.concat(), 16).ok()).flatten()
}

/// As sysfs writes `node_guid`: `0011:2233:4455:6677`.
pub fn show_guid(guid: u64) -> String {
    let part = |shift: u32| (guid >> shift) & 0xffff;
    format!("{:04x}:{:04x}:{:04x}:{:04x}", part(48), part(32), part(16), part(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Fault, Flavour, Machine, SimHost};
    use crate::testing::{self, pf, worker_with_vfs};
    use api::Timestamp;
    use expect_test::expect;

    const MAC: &str = "02:00:00:00:00:0A";
    const GUID: &str = "0011:2233:4455:6677";

    fn infiniband() -> Machine {
        let mut machine = Machine::new("worker-0", Flavour::Rhel, Timestamp::UNIX_EPOCH);
        machine.add_connectx7(0x03, 0, true);
        machine.boot();
        let host = SimHost::new(machine);
        crate::vf_count::set(&host, &pf(), 2, false).unwrap();
        host.snapshot()
    }

    #[test]
    fn a_mac_goes_through_the_pf_and_a_second_time_there_is_nothing_to_do() {
        let out = testing::run_twice(worker_with_vfs(2), |host| set_mac(host, &pf(), 1, MAC));
        expect![[r#"
            Yes
                enp3s0f0: vf 1 mac 02:00:00:00:00:0a
            AlreadyRight
        "#]]
        .assert_eq(&out);
    }

    #[test]
    fn a_mac_that_the_card_does_not_take_is_a_failure() {
        let machine = worker_with_vfs(2).with(Fault::IgnoresVfMac);
        let mut out = testing::run(machine, |host| set_mac(host, &pf(), 1, MAC));
        out.push_str(&testing::run(worker_with_vfs(2), |host| set_mac(host, &pf(), 2, MAC)));
        expect![[r#"
            VF 1 of enp3s0f0 has MAC 00:00:00:00:00:00 after MAC 02:00:00:00:00:0a was set
                enp3s0f0: vf 1 mac 02:00:00:00:00:0a
            0000:03:00.0 has no VF 2
        "#]]
        .assert_eq(&out);
    }

    #[test]
    fn guids_are_of_infiniband_alone() {
        let mut out = testing::run_twice(infiniband(), |host| set_guid(host, &pf(), 1, GUID));
        out.push_str(&testing::run(worker_with_vfs(2), |host| set_guid(host, &pf(), 1, GUID)));
        for guid in ["0000:0000:0000:0000", "11:22", "0011:2233:4455:667g"] {
            out.push_str(&testing::run(infiniband(), |host| set_guid(host, &pf(), 1, guid)));
        }
        expect![[r#"
            Yes
                ibp3s0: vf 1 node guid 00:11:22:33:44:55:66:77
                ibp3s0: vf 1 port guid 00:11:22:33:44:55:66:77
            AlreadyRight
            cannot set GUID 0011:2233:4455:6677 on VF 1 of 0000:03:00.0: set node guid 00:11:22:33:44:55:66:77 on vf 1 of link 3 in the host's namespace: operation not supported
                enp3s0f0: vf 1 node guid 00:11:22:33:44:55:66:77: operation not supported
            cannot set GUID 0000:0000:0000:0000 on VF 1 of 0000:03:00.0: zeros and ones alone mean that there is none
            "11:22" is not a GUID; write 0011:2233:4455:6677 or 00:11:22:33:44:55:66:77
            "0011:2233:4455:667g" is not a GUID; write 0011:2233:4455:6677 or 00:11:22:33:44:55:66:77
        "#]].assert_eq(&out);
    }

    #[test]
    fn a_port_guid_that_the_card_does_not_take_is_a_failure() {
        let machine = infiniband().with(Fault::IgnoresVfPortGuid);
        let out = testing::run(machine, |host| set_guid(host, &pf(), 1, GUID));
        expect![[r#"
            VF 1 of 0000:03:00.0 has port GUID 0000:0000:0000:0000 after 0011:2233:4455:6677 was set
                ibp3s0: vf 1 node guid 00:11:22:33:44:55:66:77
                ibp3s0: vf 1 port guid 00:11:22:33:44:55:66:77
        "#]]
        .assert_eq(&out);
    }

    #[test]
    fn a_guid_is_the_vfs_own_after_its_probe() {
        let host = SimHost::new(infiniband());
        set_guid(&host, &pf(), 1, GUID).unwrap();
        let vf = function::vf(&host, &pf(), 1).unwrap();
        crate::driver_bind::bind_default(&host, &vf).unwrap();
        let devices = crate::home::rdma_devices_at_home(&host, &vf.to_string()).unwrap();
        assert_eq!(show_guid(devices[0].node_guid), GUID);
    }

    #[test]
    fn from_every_crash_the_next_run_reaches_the_goal() {
        testing::crash_everywhere(worker_with_vfs(2), |host| set_mac(host, &pf(), 1, MAC));
        testing::crash_everywhere(infiniband(), |host| set_guid(host, &pf(), 1, GUID));
    }
}
