//! Interfaces, addresses, routes, frames and waits over the running kernel, in network namespaces of our own.

#![allow(clippy::unwrap_used)] // Helpers of tests may, as the tests do.

mod support;

use api::lifeline::{Carries, Lifeline};
use expect_test::expect;
use host::linux::LinuxHost;
use host::netlink;
use host::seam::{
    Address, AddressChange, DevlinkChange, Host, Interest, Link, LinkChange, LinkQuery, Namespace,
    RdmaChange, Refusal, Route, RouteChange, VfSetting, Woken,
};
use std::net::IpAddr;
use std::time::Duration;
use support::{Space, private_space};

const HOME: Namespace = Namespace::Host;
const SOON: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_secs(10);

fn named(host: &LinuxHost, space: &Namespace, name: &str) -> Result<Link, Refusal> {
    let query = LinkQuery { name: Some(name.to_owned()), ..LinkQuery::default() };
    Ok(host.links(space, &query)?.remove(0))
}

fn names(host: &LinuxHost, space: &Namespace) -> Vec<String> {
    let links = host.links(space, &LinkQuery::default()).unwrap();
    links.into_iter().map(|link| link.name).collect()
}

/// A refusal as people read it, without what differs from run to run.
fn said(outcome: Result<(), Refusal>, space: &Space) -> String {
    let Namespace::At(path) = space.namespace() else { panic!("a namespace has a path") };
    outcome.unwrap_err().to_string().replace(&path, "POD")
}

#[test]
fn a_new_namespace_has_a_loopback_interface_and_nothing_else() {
    let Some(space) = private_space() else { return };
    let links = space.host().links(&HOME, &LinkQuery::default()).unwrap();
    let lo = &links[0];
    assert_eq!((links.len(), lo.name.as_str(), lo.hardware, lo.mtu), (1, "lo", 772, 65536));
    assert!(!lo.up && lo.vfs.is_empty() && lo.parent.is_none() && lo.lower.is_none());
}

#[test]
fn an_interface_takes_each_change_and_shows_it() {
    let Some(space) = private_space() else { return };
    let host = space.host();
    space.veth("one", "other");
    let link = space.index("one");
    let change = |change| host.change_link(&HOME, &change).unwrap();
    change(LinkChange::Mtu { link, mtu: 9000 });
    change(LinkChange::Address { link, address: vec![2, 0, 0, 0, 0, 7] });
    change(LinkChange::Rename { link, name: "net1".to_owned() });
    change(LinkChange::AddAltName { link, name: "enp59s0f0np0v00000".to_owned() });
    change(LinkChange::Up { link });
    let found = named(&host, &HOME, "enp59s0f0np0v00000").unwrap();
    assert_eq!((found.name.as_str(), found.mtu, found.up), ("net1", 9000, true));
    assert_eq!(found.alt_names, ["enp59s0f0np0v00000"]);
    assert_eq!(found.address, [2, 0, 0, 0, 0, 7]);
    assert_eq!((found.kind.as_deref(), found.lower), (Some("veth"), Some(space.index("other"))));
    change(LinkChange::RemoveAltName { link, name: "enp59s0f0np0v00000".to_owned() });
    change(LinkChange::Down { link });
    let found = named(&host, &HOME, "net1").unwrap();
    assert!(!found.up && found.alt_names.is_empty());
}

#[test]
fn what_the_kernel_refuses_comes_with_its_errno_and_its_words() {
    let Some(space) = private_space() else { return };
    let host = space.host();
    space.veth("one", "other");
    let (one, other) = (space.index("one"), space.index("other"));
    let refused =
        |change| said(host.change_link(&HOME, &change), &space).replace(&one.to_string(), "ONE");
    expect![[r#"set mtu 1 on link ONE in the host's namespace: invalid argument (mtu less than device minimum)"#]]
        .assert_eq(&refused(LinkChange::Mtu { link: one, mtu: 1 }).replace("mtu ONE", "mtu 1"));
    let name = "other".to_owned();
    expect!["rename link ONE to other in the host's namespace: file exists"]
        .assert_eq(&refused(LinkChange::Rename { link: one, name }));
    let setting = VfSetting::SpoofCheck(true);
    expect![
        "set spoof check on on vf 0 of link ONE in the host's namespace: operation not supported"
    ]
    .assert_eq(&refused(LinkChange::Vf { link: one, vf: 0, setting }));
    let gone = said(host.change_link(&HOME, &LinkChange::Up { link: other + 90 }), &space);
    assert!(gone.ends_with("up in the host's namespace: no such device"), "{gone}");
    expect!["list the links of the host's namespace: no such device"]
        .assert_eq(&named(&host, &HOME, "nothing").unwrap_err().to_string());
}

#[test]
fn an_interface_moves_to_a_pod_under_a_new_name_and_back() {
    let (Some(home), Some(pod)) = (private_space(), private_space()) else { return };
    let host = home.host();
    home.veth("one", "other");
    let link = home.index("one");
    let to = pod.namespace();
    let name = Some("net1".to_owned());
    host.change_link(&HOME, &LinkChange::Move { link, to: to.clone(), name }).unwrap();
    assert_eq!(names(&host, &HOME), ["lo", "other"]);
    assert_eq!(names(&host, &to), ["lo", "net1"]);
    let link = named(&host, &to, "net1").unwrap().index;
    let name = Some("one".to_owned());
    host.change_link(&to, &LinkChange::Move { link, to: HOME, name }).unwrap();
    let mut back = names(&host, &HOME);
    back.sort();
    assert_eq!(back, ["lo", "one", "other"]);
}

#[test]
fn a_move_to_what_is_no_namespace_is_refused_and_moves_nothing() {
    let Some(space) = private_space() else { return };
    let host = space.host();
    space.veth("one", "other");
    let link = space.index("one");
    let to = |path: &str| LinkChange::Move { link, to: Namespace::At(path.to_owned()), name: None };
    let refused = |path: &str| {
        said(host.change_link(&HOME, &to(path)), &space).replace(&format!("link {link}"), "ONE")
    };
    expect![
        "move ONE to namespace /run/netns/gone in the host's namespace: no such file or directory"
    ]
    .assert_eq(&refused("/run/netns/gone"));
    expect!["move ONE to namespace /proc/version in the host's namespace: invalid argument"]
        .assert_eq(&refused("/proc/version"));
    assert_eq!(names(&host, &HOME).len(), 3);
}

#[test]
fn a_thread_that_asked_about_a_pod_is_where_it_was() {
    let Some(space) = private_space() else { return };
    let own = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let before = own();
    space.host().links(&HOME, &LinkQuery::default()).unwrap();
    let file = Namespace::At("/proc/version".to_owned());
    let refused = space.host().links(&file, &LinkQuery::default()).unwrap_err();
    assert_eq!(refused.to_string(), "list the links of namespace /proc/version: invalid argument");
    assert_eq!(own(), before);
}

#[test]
fn addresses_are_added_listed_and_removed() {
    let Some(space) = private_space() else { return };
    let host = space.host();
    space.veth("one", "other");
    let link = space.index("one");
    let four: IpAddr = "10.1.2.3".parse().unwrap();
    let six: IpAddr = "fd00::7".parse().unwrap();
    let add =
        |address, prefix| host.change_address(&HOME, &AddressChange::Add { link, address, prefix });
    add(four, 24).unwrap();
    add(six, 64).unwrap();
    let again = add(four, 24).unwrap_err().to_string();
    assert_eq!(
        again.split(": ").next(),
        Some(format!("add address 10.1.2.3/24 on link {link} in the host's namespace").as_str())
    );
    assert!(again.contains(": file exists"), "{again}");
    let found = host.addresses(&HOME, Some(link)).unwrap();
    assert!(found.contains(&Address { link, address: four, prefix: 24, tentative: false }));
    assert!(found.iter().any(|found| found.address == six && found.prefix == 64));
    assert!(host.addresses(&HOME, Some(link + 90)).unwrap().is_empty());
    for (address, prefix) in [(four, 24), (six, 64)] {
        host.change_address(&HOME, &AddressChange::Remove { link, address, prefix }).unwrap();
    }
    assert_eq!(host.addresses(&HOME, Some(link)).unwrap(), []);
}

fn route(destination: &str, prefix: u8, link: u32) -> Route {
    Route {
        destination: (destination.parse().unwrap(), prefix),
        gateway: None,
        link: Some(link),
        table: 254,
        priority: None,
        scope: None,
        mtu: None,
        advmss: None,
    }
}

#[test]
fn routes_are_added_listed_and_removed() {
    let Some(space) = private_space() else { return };
    let host = space.host();
    space.veth("one", "other");
    let link = space.index("one");
    for link in [link, space.index("other")] {
        host.change_link(&HOME, &LinkChange::Up { link }).unwrap();
    }
    let address = "10.1.0.1".parse().unwrap();
    host.change_address(&HOME, &AddressChange::Add { link, address, prefix: 16 }).unwrap();
    let gateway = Some("10.1.0.9".parse().unwrap());
    let wanted = [
        route("10.7.0.0", 16, link),
        Route { gateway, mtu: Some(1400), priority: Some(50), ..route("0.0.0.0", 0, link) },
        Route { table: 1000, ..route("10.8.0.0", 16, link) },
        route("fd00:7::", 64, link),
    ];
    for route in &wanted {
        host.change_route(&HOME, &RouteChange::Add(route.clone())).unwrap();
    }
    let found = host.routes(&HOME).unwrap();
    for route in &wanted {
        let same = |found: &&Route| {
            (found.destination, found.gateway, found.link, found.table, found.mtu)
                == (route.destination, route.gateway, route.link, route.table, route.mtu)
        };
        assert!(found.iter().any(|found| same(&found)), "{route:?} is not among {found:?}");
        host.change_route(&HOME, &RouteChange::Remove(route.clone())).unwrap();
    }
    let again = host.change_route(&HOME, &RouteChange::Remove(wanted[0].clone())).unwrap_err();
    expect!["remove route 10.7.0.0/16 in the host's namespace: no such process"]
        .assert_eq(&again.to_string());
}

#[test]
fn what_the_host_lives_by_is_followed_from_its_routes_through_the_kernels_stacks() {
    let Some(space) = private_space() else { return };
    let host = space.host();
    space.veth("port", "cable");
    space.veth("spare", "other");
    space.link("br0", "bridge", None);
    space.put_below(space.index("port"), space.index("br0"));
    space.link("mv0", "macvlan", Some(space.index("spare")));
    for name in ["port", "cable", "spare", "other", "br0", "mv0"] {
        host.change_link(&HOME, &LinkChange::Up { link: space.index(name) }).unwrap();
    }
    let add = |link, address: &str| {
        let address = address.parse().unwrap();
        let change = AddressChange::Add { link, address, prefix: 24 };
        host.change_address(&HOME, &change).unwrap();
    };
    let bridge = space.index("br0");
    add(bridge, "10.7.0.11");
    add(space.index("mv0"), "10.8.0.11");
    let gateway = |address: &str| Some(address.parse().unwrap());
    let default = Route { gateway: gateway("10.7.0.1"), ..route("0.0.0.0", 0, bridge) };
    let spare = Route {
        gateway: gateway("10.8.0.1"),
        priority: Some(100),
        ..route("0.0.0.0", 0, space.index("mv0"))
    };
    let other_table = Route { table: 1000, priority: None, ..spare.clone() };
    for route in [default, spare, other_table] {
        host.change_route(&HOME, &RouteChange::Add(route)).unwrap();
    }
    // Everything is the kernel's but the cards: a veth has no PCI function.
    let mut links = host.links(&HOME, &LinkQuery::default()).unwrap();
    for (name, pci) in [("port", "0000:3b:00.0"), ("spare", "0000:5e:00.0")] {
        let link = links.iter_mut().find(|link| link.name == name).unwrap();
        link.parent = Some(pci.to_owned());
    }
    let mut text = String::new();
    for (pci, lifelines) in host::lifeline::observe(&host, &links).unwrap() {
        let routes = lifelines.iter().filter(|l| l.carries == Carries::DefaultRoute);
        for Lifeline { detail, over, .. } in routes {
            text += &format!("{pci}: {}, {detail:?}\n", over.join(" < "));
        }
    }
    expect![[r#"
        0000:3b:00.0: port < br0, ""
        0000:5e:00.0: spare < mv0, "table 1000"
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_frame_arrives_at_the_other_end_of_the_cable() {
    use rustix::net::{
        AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with,
    };
    let Some(space) = private_space() else { return };
    let host = space.host();
    space.veth("one", "other");
    for name in ["one", "other"] {
        host.change_link(&HOME, &LinkChange::Up { link: space.index(name) }).unwrap();
    }
    // ETH_P_ALL, in network order.
    let all = Protocol::from_raw(0x0300u32.try_into().unwrap());
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let ear = space.run(move || {
        socket_with(AddressFamily::PACKET, SocketType::RAW, flags, Some(all)).unwrap()
    });
    let frame: Vec<u8> =
        [[0xff; 6].as_slice(), &[2, 0, 0, 0, 0, 1], &[0x88, 0xb5], &[7; 46]].concat();
    host.send_frame(&HOME, space.index("one"), &frame).unwrap();
    let heard = (0..200).any(|_| {
        let mut buffer = [0; 256];
        match recv(&ear, &mut buffer, RecvFlags::empty()) {
            Ok((length, _)) => buffer[..length] == frame,
            Err(_) => {
                std::thread::sleep(Duration::from_millis(5));
                false
            }
        }
    });
    assert!(heard);
    let refused = host.send_frame(&HOME, 4000, &frame).unwrap_err();
    expect!["send 60 bytes out of link 4000 in the host's namespace: no such device or address"]
        .assert_eq(&refused.to_string());
}

#[test]
fn our_reader_and_another_see_the_same_interfaces() {
    use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader};
    use netlink_packet_route::{RouteNetlinkMessage, link::LinkAttribute};
    let Some(space) = private_space() else { return };
    space.veth("one", "other");
    let ours = space.host().links(&HOME, &LinkQuery::default()).unwrap();
    let recorded = space.run(|| {
        let request = netlink::link::query(&LinkQuery::default());
        let mut socket = netlink_sys::Socket::new(0).unwrap();
        socket.bind_auto().unwrap();
        socket.send_to(&request.bytes(1), &netlink_sys::SocketAddr::new(0, 0), 0).unwrap();
        let (bytes, _) = socket.recv_from_full().unwrap();
        netlink::message::replies(&bytes).unwrap()
    });
    let theirs: Vec<String> = recorded
        .into_iter()
        .filter_map(|reply| match reply.body {
            netlink::Body::Data { kind, payload } => Some((kind, payload)),
            _ => None,
        })
        .map(|(kind, payload)| {
            let mut header = NetlinkHeader::default();
            header.message_type = kind;
            match RouteNetlinkMessage::deserialize(&header, &payload).unwrap() {
                RouteNetlinkMessage::NewLink(link) => {
                    let mut parts = vec![link.header.index.to_string()];
                    for attribute in link.attributes {
                        match attribute {
                            LinkAttribute::IfName(name) => parts.push(name),
                            LinkAttribute::Mtu(mtu) => parts.push(mtu.to_string()),
                            LinkAttribute::Address(address) => parts.push(format!("{address:?}")),
                            _ => {}
                        }
                    }
                    parts.sort();
                    parts.join(" ")
                }
                other => panic!("{other:?}"),
            }
        })
        .collect();
    let ours: Vec<String> = ours
        .into_iter()
        .map(|link| {
            let mut parts = [
                link.index.to_string(),
                link.name,
                link.mtu.to_string(),
                format!("{:?}", link.address),
            ];
            parts.sort();
            parts.join(" ")
        })
        .collect();
    assert_eq!(ours.len(), 3);
    assert_eq!(ours, theirs);
}

#[test]
fn a_device_without_devlink_is_no_such_device() {
    let Some(space) = private_space() else { return };
    let host = space.host();
    let device = "0000:00:00.7".parse().unwrap();
    let refused = host.devlink(&device).unwrap_err();
    assert_eq!(refused.errno, rustix::io::Errno::NODEV, "{refused}");
    assert_eq!(refused.tried, "ask devlink about 0000:00:00.7");
    let change = DevlinkChange::Eswitch(api::EswitchMode::Switchdev);
    let refused = host.change_devlink(&device, &change).unwrap_err();
    assert_eq!(refused.tried, "set eswitch mode switchdev on 0000:00:00.7 by devlink");
}

#[test]
fn a_look_at_rdma_does_not_load_the_subsystem() {
    let Some(space) = private_space() else { return };
    if std::fs::exists("/sys/module/ib_core").unwrap() {
        return support::skip(
            "root",
            "ib_core is loaded here, so that a look cannot be seen not to load it",
        );
    }
    let host = space.host();
    expect!["ask for the rdma mode: protocol not supported"]
        .assert_eq(&host.rdma_mode().unwrap_err().to_string());
    expect!["list the rdma devices of the host's namespace: protocol not supported"]
        .assert_eq(&host.rdma_devices(&HOME).unwrap_err().to_string());
    let refused = host.change_rdma(&HOME, &RdmaChange::Mode(api::RdmaMode::Exclusive)).unwrap_err();
    expect!["set rdma mode exclusive from the host's namespace: protocol not supported"]
        .assert_eq(&refused.to_string());
    assert!(!std::fs::exists("/sys/module/ib_core").unwrap());
}

#[test]
fn a_wait_ends_when_an_interface_changes_even_before_it_began() {
    let Some(space) = private_space() else { return };
    let host = space.host();
    let interests = [Interest::Link];
    assert_eq!(host.wait(&interests, LATE), Woken::ByEvent, "the first wait says: look");
    assert_eq!(host.wait(&interests, SOON), Woken::ByTimeout);
    space.veth("one", "other");
    assert_eq!(host.wait(&interests, LATE), Woken::ByEvent);
    assert_eq!(host.wait(&interests, SOON), Woken::ByTimeout);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(SOON);
            host.change_link(&HOME, &LinkChange::Up { link: space.index("one") }).unwrap();
        });
        assert_eq!(host.wait(&interests, LATE), Woken::ByEvent);
    });
}

#[test]
fn a_wait_ends_when_a_device_appears() {
    let Some(space) = private_space() else { return };
    let host = space.host();
    let interests = [Interest::Uevent];
    assert_eq!(host.wait(&interests, LATE), Woken::ByEvent, "the first wait says: look");
    space.veth("one", "other");
    assert_eq!(host.wait(&interests, LATE), Woken::ByEvent);
}
