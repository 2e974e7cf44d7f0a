//! The interface of a PCI function: finding it in any namespace, up, down, MTU.

use crate::home::{interface_at_home, interface_in, other_namespaces};
use crate::seam::{Changed, Host, Link, LinkChange, Namespace, Refusal};
use api::PciAddress;
use thiserror::Error;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LinkError {
    #[error("cannot set {what} on {pci}: it has no interface in the host's network namespace")]
    NoInterface { pci: PciAddress, what: String },
    #[error("cannot set {what} on {name} ({pci}): {refusal}")]
    Refused { pci: PciAddress, name: String, what: String, refusal: Refusal },
    #[error("{name} ({pci}) has {found} after {what} was set")]
    NotTaken { pci: PciAddress, name: String, what: String, found: String },
    #[error("cannot {0}")]
    Unreadable(Refusal),
}

impl From<Refusal> for LinkError {
    fn from(refusal: Refusal) -> Self {
        Self::Unreadable(refusal)
    }
}

/// The interface of a function, in whatever namespace it is; the host's is looked at first.
pub fn find(host: &dyn Host, pci: &PciAddress) -> Result<Option<(Namespace, Link)>, LinkError> {
    if let Some(link) = interface_at_home(host, pci)? {
        return Ok(Some((Namespace::Host, link)));
    }
    let away = other_namespaces(host).find_map(|space| {
        // A namespace may end while we look at it.
        let link = interface_in(host, &space, pci).ok().flatten()?;
        Some((space, link))
    });
    Ok(away)
}

/// Sets the function's interface in the host's namespace up.
pub fn set_up(host: &dyn Host, pci: &PciAddress) -> Result<Changed, LinkError> {
    set(
        host,
        pci,
        "up".to_owned(),
        |link| (!link.up).then_some(LinkChange::Up { link: link.index }),
        |link| if link.up { "up" } else { "down" }.to_owned(),
    )
}

/// Sets the function's interface in the host's namespace down.
pub fn set_down(host: &dyn Host, pci: &PciAddress) -> Result<Changed, LinkError> {
    set(
        host,
        pci,
        "down".to_owned(),
        |link| link.up.then_some(LinkChange::Down { link: link.index }),
        |link| if link.up { "up" } else { "down" }.to_owned(),
    )
}

/// Sets the MTU of the function's interface in the host's namespace.
pub fn set_mtu(host: &dyn Host, pci: &PciAddress, mtu: u32) -> Result<Changed, LinkError> {
    set(
        host,
        pci,
        format!("mtu {mtu}"),
        |link| (link.mtu != mtu).then_some(LinkChange::Mtu { link: link.index, mtu }),
        |link| format!("mtu {}", link.mtu),
    )
}

/// One change of an interface, where it is needed, read back.
fn set(
    host: &dyn Host,
    pci: &PciAddress,
    what: String,
    needed: impl Fn(&Link) -> Option<LinkChange>,
    show: impl Fn(&Link) -> String,
) -> Result<Changed, LinkError> {
    let missing = || LinkError::NoInterface { pci: *pci, what: what.clone() };
    let link = interface_at_home(host, pci)?.ok_or_else(missing)?;
    let Some(change) = needed(&link) else { return Ok(Changed::AlreadyRight) };
    let changed = host.change_link(&Namespace::Host, &change);
    changed.map_err(|refusal| LinkError::Refused {
        pci: *pci,
        name: link.name.clone(),
        what: what.clone(),
        refusal,
    })?;
    let link = interface_at_home(host, pci)?.ok_or_else(missing)?;
    if needed(&link).is_some() {
        return Err(LinkError::NotTaken { pci: *pci, found: show(&link), name: link.name, what });
    }
    Ok(Changed::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::LinkQuery;
    use crate::sim::{Fault, Machine, SimHost};
    use crate::testing::{self, pf, worker, worker_with_vfs};
    use api::EswitchMode;
    use expect_test::expect;

    #[test]
    fn an_mtu_is_set_once_and_out_of_range_is_refused_by_name() {
        let mut out = testing::run(worker(), |host| set_mtu(host, &pf(), 9000));
        out.push_str(&testing::run(worker(), |host| set_mtu(host, &pf(), 1500)));
        out.push_str(&testing::run(worker(), |host| set_mtu(host, &pf(), 20000)));
        expect![[r#"
            Yes
                enp3s0f0: mtu 9000
            AlreadyRight
            cannot set mtu 20000 on enp3s0f0 (0000:03:00.0): set mtu 20000 on link 3 in the host's namespace: invalid argument
                enp3s0f0: mtu 20000: invalid argument
        "#]].assert_eq(&out);
    }

    #[test]
    fn a_pf_is_set_up_and_down() {
        let mut out = testing::run(worker(), |host| set_down(host, &pf()));
        out.push_str(&testing::run(worker(), |host| set_up(host, &pf())));
        expect![[r#"
            Yes
                enp3s0f0: down
            AlreadyRight
        "#]]
        .assert_eq(&out);
    }

    /// Two VFs in switchdev mode, where udev gave the first one's representor a name that comes before the PF's.
    fn with_representors() -> Machine {
        let host = SimHost::new(worker_with_vfs(2));
        crate::eswitch::set(&host, &pf(), EswitchMode::Switchdev).unwrap();
        let links = host.links(&Namespace::Host, &LinkQuery::default()).unwrap();
        let of_vf_0 = |link: &&Link| link.phys_port_name.as_deref() == Some("pf0vf0");
        let link = links.iter().find(of_vf_0).unwrap().index;
        let name = "a0".to_owned();
        host.change_link(&Namespace::Host, &LinkChange::Rename { link, name }).unwrap();
        host.snapshot()
    }

    #[test]
    fn a_representor_is_not_taken_for_the_pf_whatever_its_name() {
        let host = SimHost::new(with_representors());
        let names = host.list(&pf().file("net")).unwrap();
        assert_eq!(names, ["a0", "enp3s0f0", "enp3s0f0_1"]);
        let mut out = testing::run_twice(with_representors(), |host| set_mtu(host, &pf(), 9000));
        out.push_str(&testing::run_twice(with_representors(), |host| set_down(host, &pf())));
        expect![[r#"
            Yes
                enp3s0f0: mtu 9000
            AlreadyRight
            Yes
                enp3s0f0: down
            AlreadyRight
        "#]]
        .assert_eq(&out);
        let vf = "0000:03:00.2".parse().unwrap();
        crate::vf_settings::set_mac(&host, &pf(), 0, "02:00:00:00:00:0a").unwrap();
        crate::driver_bind::unbind(&host, &vf).unwrap();
        host.machine().faults.insert(Fault::VfIgnoresItsMac);
        let wrong = crate::driver_bind::bind_default(&host, &vf).unwrap_err().to_string();
        assert!(wrong.contains("its PF 0000:03:00.0 holds 02:00:00:00:00:0a for it"), "{wrong}");
    }

    #[test]
    fn an_interface_is_found_where_a_pod_has_it() {
        let host = SimHost::new(worker_with_vfs(1));
        let vf = "0000:03:00.2".parse().unwrap();
        host.machine().create_namespace("/var/run/netns/a").unwrap();
        let at_home = find(&host, &vf).unwrap().unwrap();
        let pod = Namespace::At("/var/run/netns/a".to_owned());
        let change = LinkChange::Move {
            link: at_home.1.index,
            to: pod.clone(),
            name: Some("net1".to_owned()),
        };
        host.change_link(&Namespace::Host, &change).unwrap();
        let (space, link) = find(&host, &vf).unwrap().unwrap();
        assert_eq!((space, link.name.as_str()), (pod, "net1"));
        assert_eq!(
            set_up(&host, &vf).unwrap_err().to_string(),
            "cannot set up on 0000:03:00.2: it has no interface in the host's network namespace"
        );
    }

    #[test]
    fn from_every_crash_the_next_run_reaches_the_goal() {
        testing::crash_everywhere(worker(), |host| set_mtu(host, &pf(), 9000));
        testing::crash_everywhere(worker(), |host| set_down(host, &pf()));
    }
}
