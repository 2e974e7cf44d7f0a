use super::*;
use expect_test::expect;
use proptest::prelude::*;

fn add(address: &str, prefix: u8) -> Request {
    change(&AddressChange::Add { link: 3, address: address.parse().unwrap(), prefix })
}

#[test]
fn an_ipv4_address_is_added_with_its_broadcast() {
    let request = add("10.1.2.3", 24);
    assert_eq!((request.kind, request.flags), (20, 0x605));
    expect![[r#"
        [
            Attribute {
                kind: 2,
                value: [
                    10,
                    1,
                    2,
                    3,
                ],
            },
            Attribute {
                kind: 1,
                value: [
                    10,
                    1,
                    2,
                    3,
                ],
            },
            Attribute {
                kind: 4,
                value: [
                    10,
                    1,
                    2,
                    255,
                ],
            },
        ]
    "#]]
    .assert_debug_eq(&read(&request.payload[HEADER..]).unwrap());
}

#[test]
fn a_host_address_and_ipv6_have_no_broadcast() {
    for request in [add("10.1.2.3", 32), add("10.1.2.3", 31), add("fd00::1", 64)] {
        assert_eq!(read(&request.payload[HEADER..]).unwrap().len(), 2);
    }
}

#[test]
fn the_local_address_of_a_point_to_point_interface_is_ours() {
    let mut payload = vec![2, 32, 0, 0, 5, 0, 0, 0];
    payload.extend(
        Writer::new().bytes(IFA_ADDRESS, &[10, 0, 0, 2]).bytes(IFA_LOCAL, &[10, 0, 0, 1]).done(),
    );
    let address =
        Address { link: 5, address: "10.0.0.1".parse().unwrap(), prefix: 32, tentative: false };
    assert_eq!(parse(&payload), Ok(Some(address)));
}

#[test]
fn an_address_under_duplicate_detection_is_tentative() {
    let mut payload = vec![10, 64, 0, 0, 5, 0, 0, 0];
    payload.extend(Writer::new().bytes(IFA_ADDRESS, &[0xfe; 16]).u32(IFA_FLAGS, 0xc0).done());
    assert!(parse(&payload).unwrap().unwrap().tentative);
}

#[test]
fn an_address_of_another_family_is_none_of_ours() {
    let mut payload = vec![28, 0, 0, 0, 5, 0, 0, 0];
    payload.extend(Writer::new().bytes(IFA_LOCAL, &[1, 2]).done());
    assert_eq!(parse(&payload), Ok(None));
    assert_eq!(parse(&[2]).unwrap_err().to_string(), "an address of 1 bytes has no header");
}

proptest! {
    #[test]
    fn an_address_reads_back_as_it_was_written(link in any::<u32>(), address in any::<IpAddr>(), prefix in 0u8..=128) {
        let request = change(&AddressChange::Add { link, address, prefix });
        let expected = Address { link, address, prefix, tentative: false };
        prop_assert_eq!(parse(&request.payload), Ok(Some(expected)));
    }

    #[test]
    fn any_bytes_give_an_address_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = parse(&bytes);
    }
}
