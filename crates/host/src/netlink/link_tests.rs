use super::*;
use crate::seam::{Namespace, VfLinkState, VfSetting, Vlan};
use expect_test::{Expect, expect};
use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use proptest::prelude::*;

/// What another reader of routing messages makes of our request.
fn check(request: &Request, expected: Expect) {
    let mut header = NetlinkHeader::default();
    header.message_type = request.kind;
    let read = RouteNetlinkMessage::deserialize(&header, &request.payload).unwrap();
    let text = match read {
        RouteNetlinkMessage::GetLink(message) | RouteNetlinkMessage::SetLink(message) => {
            let header = &message.header;
            let lines = message.attributes.iter().map(|attribute| format!("\n{attribute:?}"));
            format!(
                "type {} index {} flags {:?} of {:?}{}",
                request.kind,
                header.index,
                header.flags,
                header.change_mask,
                lines.collect::<String>()
            )
        }
        other => format!("{other:?}"),
    };
    expected.assert_eq(&text);
}

fn check_change(what: &LinkChange, expected: Expect) {
    check(&change(what, Some(9)).unwrap(), expected);
}

fn vf_setting(setting: VfSetting) -> LinkChange {
    LinkChange::Vf { link: 3, vf: 1, setting }
}

fn link_message(attributes: Vec<LinkAttribute>) -> Vec<u8> {
    let mut message = LinkMessage::default();
    message.header.index = 7;
    message.attributes = attributes;
    let message = RouteNetlinkMessage::NewLink(message);
    let mut payload = vec![0; message.buffer_len()];
    message.serialize(&mut payload);
    payload
}

#[test]
fn an_interface_is_asked_for_by_index_by_name_or_among_all() {
    check(
        &query(&LinkQuery { index: Some(4), ..LinkQuery::default() }),
        expect![[r#"
        type 18 index 4 flags LinkFlags(0x0) of LinkFlags(0x0)
        ExtMask([SkipStats])"#]],
    );
    check(
        &query(&LinkQuery { name: Some("ens1f0".to_owned()), with_vfs: true, index: None }),
        expect![[r#"
            type 18 index 0 flags LinkFlags(0x0) of LinkFlags(0x0)
            ExtMask([Vf, SkipStats])
            IfName("ens1f0")"#]],
    );
    let long =
        query(&LinkQuery { name: Some("enp59s0f0np0v00000".to_owned()), ..LinkQuery::default() });
    check(
        &long,
        expect![[r#"
        type 18 index 0 flags LinkFlags(0x0) of LinkFlags(0x0)
        ExtMask([SkipStats])
        Other(DefaultNla { kind: 53, value: [101, 110, 112, 53, 57, 115, 48, 102, 48, 110, 112, 48, 118, 48, 48, 48, 48, 48, 0] })"#]],
    );
    assert!(query(&LinkQuery::default()).is_dump());
    assert!(!long.is_dump());
}

#[test]
fn up_and_down_change_one_flag_only() {
    check_change(
        &LinkChange::Up { link: 3 },
        expect!["type 19 index 3 flags LinkFlags(Up) of LinkFlags(Up)"],
    );
    check_change(
        &LinkChange::Down { link: 3 },
        expect!["type 19 index 3 flags LinkFlags(0x0) of LinkFlags(Up)"],
    );
    check_change(
        &LinkChange::Promiscuous { link: 3, on: false },
        expect!["type 19 index 3 flags LinkFlags(0x0) of LinkFlags(Promisc)"],
    );
    check_change(
        &LinkChange::AllMulticast { link: 3, on: true },
        expect!["type 19 index 3 flags LinkFlags(Allmulti) of LinkFlags(Allmulti)"],
    );
}

#[test]
fn the_properties_of_an_interface_are_set_one_at_a_time() {
    check_change(
        &LinkChange::Mtu { link: 3, mtu: 9000 },
        expect![[r#"
        type 19 index 3 flags LinkFlags(0x0) of LinkFlags(0x0)
        Mtu(9000)"#]],
    );
    check_change(
        &LinkChange::Rename { link: 3, name: "net1".to_owned() },
        expect![[r#"
        type 19 index 3 flags LinkFlags(0x0) of LinkFlags(0x0)
        IfName("net1")"#]],
    );
    check_change(
        &LinkChange::Address { link: 3, address: vec![2, 0, 0, 0, 0, 9] },
        expect![[r#"
        type 19 index 3 flags LinkFlags(0x0) of LinkFlags(0x0)
        Address([2, 0, 0, 0, 0, 9])"#]],
    );
    let name = "enp59s0f0np0v00000".to_owned();
    check_alt_name(LinkChange::AddAltName { link: 3, name: name.clone() }, 108, 0x605);
    check_alt_name(LinkChange::RemoveAltName { link: 3, name }, 109, 0x005);
}

/// The other reader knows the attributes of RTM_NEWLINKPROP but not its number.
fn check_alt_name(what: LinkChange, kind: u16, flags: u16) {
    let mut request = change(&what, None).unwrap();
    assert_eq!((request.kind, request.flags), (kind, flags));
    request.kind = RTM_SETLINK;
    check(
        &request,
        expect![[r#"
        type 19 index 3 flags LinkFlags(0x0) of LinkFlags(0x0)
        PropList([AltIfName("enp59s0f0np0v00000")])"#]],
    );
}

#[test]
fn a_move_names_the_open_namespace_and_the_new_name() {
    let to = Namespace::At("/var/run/netns/pod".to_owned());
    check_change(
        &LinkChange::Move { link: 3, to: to.clone(), name: Some("net1".to_owned()) },
        expect![[r#"
            type 19 index 3 flags LinkFlags(0x0) of LinkFlags(0x0)
            NetNsFd(9)
            IfName("net1")"#]],
    );
    let error = change(&LinkChange::Move { link: 3, to, name: None }, None).unwrap_err();
    assert_eq!(error.to_string(), "a move needs its target");
}

#[test]
fn each_setting_of_a_vf_is_what_another_reader_sees() {
    check_change(
        &vf_setting(VfSetting::Mac([2, 0, 0, 0, 0, 1])),
        expect![[r#"
        type 19 index 3 flags LinkFlags(0x0) of LinkFlags(0x0)
        VfInfoList([LinkVfInfo([Mac(VfInfoMac { vf_id: 1, mac: [2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] })])])"#]],
    );
    let vlan = Vlan { id: 100, qos: 3, protocol: 0x88a8 };
    check_change(
        &vf_setting(VfSetting::Vlan(vlan)),
        expect![[r#"
        type 19 index 3 flags LinkFlags(0x0) of LinkFlags(0x0)
        VfInfoList([LinkVfInfo([VlanList([Info(VfVlanInfo { vf_id: 1, vlan_id: 100, qos: 3, protocol: Ieee8021Ad })])])])"#]],
    );
    check_change(
        &vf_setting(VfSetting::Rate { min: 10, max: 100 }),
        expect![[r#"
        type 19 index 3 flags LinkFlags(0x0) of LinkFlags(0x0)
        VfInfoList([LinkVfInfo([Rate(VfInfoRate { vf_id: 1, min_tx_rate: 10, max_tx_rate: 100 })])])"#]],
    );
    check_change(
        &vf_setting(VfSetting::SpoofCheck(true)),
        expect![[r#"
        type 19 index 3 flags LinkFlags(0x0) of LinkFlags(0x0)
        VfInfoList([LinkVfInfo([SpoofCheck(VfInfoSpoofCheck { vf_id: 1, enabled: true })])])"#]],
    );
    check_change(
        &vf_setting(VfSetting::Trust(false)),
        expect![[r#"
        type 19 index 3 flags LinkFlags(0x0) of LinkFlags(0x0)
        VfInfoList([LinkVfInfo([Trust(VfInfoTrust { vf_id: 1, enabled: false })])])"#]],
    );
    check_change(
        &vf_setting(VfSetting::LinkState(VfLinkState::Disable)),
        expect![[r#"
        type 19 index 3 flags LinkFlags(0x0) of LinkFlags(0x0)
        VfInfoList([LinkVfInfo([LinkState(VfInfoLinkState { vf_id: 1, state: Disable })])])"#]],
    );
    check_change(
        &vf_setting(VfSetting::NodeGuid(0x0011_2233_4455_6677)),
        expect![[r#"
        type 19 index 3 flags LinkFlags(0x0) of LinkFlags(0x0)
        VfInfoList([LinkVfInfo([IbNodeGuid(VfInfoGuid { vf_id: 1, guid: 4822678189205111 })])])"#]],
    );
    check_change(
        &vf_setting(VfSetting::PortGuid(0x0011_2233_4455_6677)),
        expect![[r#"
        type 19 index 3 flags LinkFlags(0x0) of LinkFlags(0x0)
        VfInfoList([LinkVfInfo([IbPortGuid(VfInfoGuid { vf_id: 1, guid: 4822678189205111 })])])"#]],
    );
}

#[test]
fn a_vf_mac_is_these_bytes_on_the_wire() {
    let request = change(&vf_setting(VfSetting::Mac([2, 0, 0, 0, 0, 1])), None).unwrap();
    let list = &request.payload[HEADER..];
    let mut expected =
        vec![48, 0, 22, 0x80, 44, 0, 1, 0x80, 40, 0, 1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 1];
    expected.resize(48, 0);
    assert_eq!(list, expected);
}

#[test]
fn an_interface_written_by_another_is_read() {
    let payload = link_message(vec![
        LinkAttribute::IfName("enp59s0f0v0".to_owned()),
        LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
        LinkAttribute::PermAddress(vec![2, 0, 0, 0, 0, 9]),
        LinkAttribute::Mtu(1500),
        LinkAttribute::Link(5),
        LinkAttribute::Controller(6),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vlan)]),
        LinkAttribute::NumVf(4),
        LinkAttribute::PhysPortName("p0".to_owned()),
        LinkAttribute::ParentDevName("0000:3b:00.2".to_owned()),
    ]);
    expect![[r#"
        Link {
            index: 7,
            name: "enp59s0f0v0",
            alt_names: [],
            address: [
                2,
                0,
                0,
                0,
                0,
                1,
            ],
            permanent: Some(
                [
                    2,
                    0,
                    0,
                    0,
                    0,
                    9,
                ],
            ),
            mtu: 1500,
            up: false,
            running: false,
            promiscuous: false,
            all_multicast: false,
            hardware: 0,
            parent: Some(
                "0000:3b:00.2",
            ),
            lower: Some(
                5,
            ),
            master: Some(
                6,
            ),
            kind: Some(
                "vlan",
            ),
            phys_port_name: Some(
                "p0",
            ),
            phys_switch_id: None,
            num_vfs: Some(
                4,
            ),
            vfs: [],
        }
    "#]]
    .assert_debug_eq(&parse(&payload).unwrap());
}

#[test]
fn an_attribute_that_nobody_knows_is_stepped_over() {
    let mut payload = header(1, IFF_UP | IFF_RUNNING, 0);
    payload[2..4].copy_from_slice(&772u16.to_ne_bytes());
    let attributes = Writer::new().text(IFLA_IFNAME, "lo").bytes(4000, &[1, 2, 3]).bytes(23, &[9]);
    payload.extend(attributes.done());
    let link = parse(&payload).unwrap();
    assert_eq!((link.name.as_str(), link.hardware, link.up, link.running), ("lo", 772, true, true));
}

#[test]
fn what_a_driver_does_not_tell_of_a_vf_is_none() {
    let info = Writer::new()
        .bytes(1, &[[0u8; 4].as_slice(), &[2, 0, 0, 0, 0, 7], &[0; 26]].concat())
        .words(4, &[0, u32::MAX])
        .words(9, &[0, u32::MAX])
        .words(5, &[0, 77]);
    let mut payload = header(1, 0, 0);
    let list = Writer::new().nest(IFLA_VFINFO_LIST, Writer::new().nest(1, info));
    payload.extend(list.bytes(IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]).done());
    let vf = parse(&payload).unwrap().vfs.remove(0);
    assert_eq!((vf.spoof_check, vf.trust, vf.link_state, vf.node_guid), (None, None, None, None));
    // The address behind the list tells how long the VF's address is.
    assert_eq!(vf.mac, [2, 0, 0, 0, 0, 7]);
}

#[test]
fn an_interface_that_is_cut_short_is_refused() {
    assert_eq!(parse(&[0; 9]).unwrap_err().to_string(), "an interface of 9 bytes has no header");
    let mut payload = header(1, 0, 0);
    payload.extend(Writer::new().bytes(IFLA_MTU, &[1]).done());
    assert_eq!(
        parse(&payload).unwrap_err().to_string(),
        "attribute 4 has 1 bytes, 4 at 0 are needed"
    );
}

fn any_setting() -> impl Strategy<Value = VfSetting> {
    prop_oneof![
        any::<[u8; 6]>().prop_map(VfSetting::Mac),
        (0u16..4095, 0u8..8, prop_oneof![Just(0x8100u16), Just(0x88a8)])
            .prop_map(|(id, qos, protocol)| VfSetting::Vlan(Vlan { id, qos, protocol })),
        (any::<u32>(), any::<u32>()).prop_map(|(min, max)| VfSetting::Rate { min, max }),
        any::<bool>().prop_map(VfSetting::SpoofCheck),
        any::<bool>().prop_map(VfSetting::Trust),
        prop_oneof![Just(VfLinkState::Auto), Just(VfLinkState::Enable), Just(VfLinkState::Disable)]
            .prop_map(VfSetting::LinkState),
        any::<u64>().prop_map(VfSetting::NodeGuid),
        any::<u64>().prop_map(VfSetting::PortGuid),
    ]
}

proptest! {
    /// The kernel answers in the form in which it is told, so our own request reads back as the setting.
    #[test]
    fn a_setting_reads_back_as_it_was_written(vf in any::<u32>(), setting in any_setting()) {
        let written = vf::setting(vf, &setting).done();
        let list = Attribute { kind: IFLA_VFINFO_LIST, value: &written };
        let found = vf::parse_list(&list, 6).unwrap().remove(0);
        match setting {
            VfSetting::Mac(mac) => prop_assert_eq!((found.index, found.mac), (vf, mac.to_vec())),
            VfSetting::Vlan(vlan) => prop_assert_eq!(found.vlan, Some(vlan)),
            VfSetting::Rate { min, max } => {
                prop_assert_eq!((found.min_tx_rate, found.max_tx_rate), (Some(min), Some(max)));
            }
            VfSetting::SpoofCheck(on) => prop_assert_eq!(found.spoof_check, Some(on)),
            VfSetting::Trust(on) => prop_assert_eq!(found.trust, Some(on)),
            VfSetting::LinkState(state) => prop_assert_eq!(found.link_state, Some(state)),
            VfSetting::NodeGuid(guid) => prop_assert_eq!(found.node_guid, Some(guid)),
            VfSetting::PortGuid(guid) => prop_assert_eq!(found.port_guid, Some(guid)),
        }
    }

    #[test]
    fn any_bytes_give_an_interface_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
        let _ = vf::parse_list(&Attribute { kind: 22, value: &bytes }, 20);
    }

    /// Bytes that are right but for a few reach deeper than random ones.
    #[test]
    fn a_good_interface_with_broken_bytes_gives_an_interface_or_an_error(
        broken in proptest::collection::vec((0usize..200, any::<u8>()), 1..6), cut in 0usize..200,
        setting in any_setting(),
    ) {
        let mut payload = header(1, 0, 0);
        let list = Writer::new().nest(IFLA_VFINFO_LIST, vf::setting(0, &setting));
        payload.extend(list.nest(IFLA_PROP_LIST, Writer::new().text(IFLA_ALT_IFNAME, "x")).done());
        for (at, byte) in broken {
            if let Some(place) = payload.get_mut(at) {
                *place = byte;
            }
        }
        payload.truncate(payload.len().saturating_sub(cut));
        let _ = parse(&payload);
    }
}
