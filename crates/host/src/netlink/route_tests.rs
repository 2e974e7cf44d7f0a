use super::*;
use expect_test::{Expect, expect};
use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader};
use netlink_packet_route::RouteNetlinkMessage;
use proptest::prelude::*;

fn route(destination: &str, prefix: u8) -> Route {
    Route {
        destination: (destination.parse().unwrap(), prefix),
        gateway: None,
        link: Some(3),
        table: 254,
        priority: None,
        scope: None,
        mtu: None,
        advmss: None,
    }
}

/// What another reader of routing messages makes of our request.
fn check(route: Route, expected: Expect) {
    let request = change(&RouteChange::Add(route));
    let mut header = NetlinkHeader::default();
    header.message_type = request.kind;
    match RouteNetlinkMessage::deserialize(&header, &request.payload).unwrap() {
        RouteNetlinkMessage::NewRoute(message) => {
            let header = &message.header;
            let lines = message.attributes.iter().map(|attribute| format!("\n{attribute:?}"));
            let lines: String = lines.collect();
            expected.assert_eq(&format!(
                "{:?}/{} table {} {:?} {:?} {:?}{lines}",
                header.address_family,
                header.destination_prefix_length,
                header.table,
                header.protocol,
                header.scope,
                header.kind
            ));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_route_without_a_gateway_is_on_the_link() {
    check(
        route("10.1.0.0", 16),
        expect![[r#"
        Inet/16 table 254 Boot Link Unicast
        Table(254)
        Destination(Inet(10.1.0.0))
        Oif(3)"#]],
    );
}

#[test]
fn a_default_route_has_no_destination() {
    let gateway = Some("10.1.0.1".parse().unwrap());
    check(
        Route { gateway, mtu: Some(1400), ..route("0.0.0.0", 0) },
        expect![[r#"
        Inet/0 table 254 Boot Universe Unicast
        Table(254)
        Gateway(Inet(10.1.0.1))
        Oif(3)
        Metrics([Mtu(1400)])"#]],
    );
}

#[test]
fn a_table_above_255_and_a_gateway_of_the_other_family_have_attributes_of_their_own() {
    let gateway = Some("fe80::1".parse().unwrap());
    check(
        Route { gateway, table: 1000, priority: Some(7), ..route("10.1.0.0", 16) },
        expect![[r#"
            Inet/16 table 0 Boot Universe Unicast
            Table(1000)
            Destination(Inet(10.1.0.0))
            Via(Inet6(fe80::1))
            Oif(3)
            Priority(7)"#]],
    );
}

#[test]
fn local_broadcast_and_cached_routes_are_left_out() {
    let mut payload = change(&RouteChange::Add(route("10.1.0.0", 16))).payload;
    assert_eq!(parse(&payload).unwrap().len(), 1);
    payload[7] = 2;
    assert_eq!(parse(&payload).unwrap(), []);
    payload[7] = RTN_UNICAST;
    payload[9] = 2;
    assert_eq!(parse(&payload).unwrap(), []);
}

#[test]
fn a_multipath_route_is_a_route_for_each_hop() {
    let mut payload = vec![2, 0, 0, 0, 254, 3, 0, RTN_UNICAST, 0, 0, 0, 0];
    let hop = |link: u8, gateway: u8| {
        let mut hop = vec![16, 0, 0, 0, link, 0, 0, 0];
        hop.extend(Writer::new().bytes(RTA_GATEWAY, &[10, 0, 0, gateway]).done());
        hop
    };
    payload.extend(Writer::new().bytes(RTA_MULTIPATH, &[hop(3, 1), hop(4, 2)].concat()).done());
    let found: Vec<_> = parse(&payload).unwrap().iter().map(|r| (r.link, r.gateway)).collect();
    let gateway = |text: &str| Some(text.parse().unwrap());
    assert_eq!(found, [(Some(3), gateway("10.0.0.1")), (Some(4), gateway("10.0.0.2"))]);
}

#[test]
fn a_hop_that_is_cut_short_is_refused() {
    let mut payload = vec![2, 0, 0, 0, 254, 3, 0, RTN_UNICAST, 0, 0, 0, 0];
    payload.extend(Writer::new().bytes(RTA_MULTIPATH, &[40, 0, 0, 0, 3, 0, 0, 0]).done());
    assert_eq!(parse(&payload).unwrap_err().to_string(), "a hop says 40 bytes, 8 are left");
}

proptest! {
    #[test]
    fn a_route_reads_back_as_it_was_written(
        destination in any::<IpAddr>(), prefix in 1u8..=128, gateway in proptest::option::of(any::<IpAddr>()),
        link in proptest::option::of(any::<u32>()), table in any::<u32>(), priority in proptest::option::of(any::<u32>()),
        scope in any::<u8>(), mtu in proptest::option::of(any::<u32>()), advmss in proptest::option::of(any::<u32>()),
    ) {
        let route = Route { destination: (destination, prefix), gateway, link, table, priority, scope: Some(scope), mtu, advmss };
        let request = change(&RouteChange::Add(route.clone()));
        prop_assert_eq!(parse(&request.payload), Ok(vec![route]));
    }

    #[test]
    fn any_bytes_give_routes_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = parse(&bytes);
        let mut payload = vec![2, 0, 0, 0, 254, 3, 0, RTN_UNICAST, 0, 0, 0, 0];
        payload.extend(Writer::new().bytes(RTA_MULTIPATH, &bytes).done());
        let _ = parse(&payload);
    }
}
