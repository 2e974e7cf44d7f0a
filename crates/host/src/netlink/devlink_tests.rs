use super::*;
use crate::netlink::message::DUMP;
use expect_test::expect;
use proptest::prelude::*;

const FAMILY: u16 = 21;

fn card() -> PciAddress {
    "0000:3b:00.0".parse().unwrap()
}

fn wanted(value: &str) -> DevlinkParameter {
    DevlinkParameter {
        name: "enable_roce".to_owned(),
        mode: "driverinit".to_owned(),
        value: value.to_owned(),
    }
}

#[test]
fn a_family_is_asked_for_by_name() {
    let request = family_query("devlink");
    assert_eq!(request.kind, 16);
    assert_eq!(request.payload, b"\x03\x01\0\0\x0c\0\x02\0devlink\0");
    let answer = payload(1, Writer::new().bytes(CTRL_ATTR_FAMILY_ID, &21u16.to_ne_bytes()));
    assert_eq!(parse_family(&answer), Ok(21));
    let error = parse_family(&payload(1, Writer::new())).unwrap_err();
    assert_eq!(error.to_string(), "a netlink family has no number");
}

#[test]
fn an_eswitch_mode_reads_back_as_it_was_written() {
    for mode in [EswitchMode::Legacy, EswitchMode::Switchdev] {
        let request = set_eswitch(FAMILY, &card(), mode);
        assert_eq!((request.kind, request.payload[0]), (FAMILY, ESWITCH_SET));
        assert_eq!(parse_eswitch(&request.payload), Ok(Some(mode)));
    }
    assert_eq!(parse_eswitch(&eswitch_query(FAMILY, &card()).payload), Ok(None));
}

#[test]
fn a_switch_that_is_kept_from_forwarding_is_in_switchdev_mode() {
    let answer = payload(ESWITCH_GET, handle(&card()).bytes(ESWITCH_MODE, &[2, 0]));
    assert_eq!(parse_eswitch(&answer), Ok(Some(EswitchMode::Switchdev)));
}

#[test]
fn a_mode_that_we_do_not_know_is_named() {
    let answer = payload(ESWITCH_GET, handle(&card()).bytes(ESWITCH_MODE, &[9, 0]));
    assert_eq!(
        parse_eswitch(&answer).unwrap_err().to_string(),
        "9 is no mode of an embedded switch"
    );
}

/// A parameter as the kernel sends it: `devlink dev param show`.
fn answer(value_type: u8, values: &[(u8, Option<&[u8]>)]) -> Vec<u8> {
    let rows = values.iter().fold(Writer::new(), |rows, (mode, data)| {
        let row = Writer::new().u8(PARAM_VALUE_CMODE, *mode);
        rows.nest(PARAM_VALUE, row.maybe(*data, |w, data| w.bytes(PARAM_VALUE_DATA, data)))
    });
    let inner = Writer::new().text(PARAM_NAME, "enable_roce").u8(PARAM_TYPE, value_type);
    payload(PARAM_GET, handle(&card()).nest(PARAM, inner.nest(PARAM_VALUES_LIST, rows)))
}

#[test]
fn a_parameter_has_a_row_for_each_mode() {
    let found = parse_parameter(&answer(6, &[(1, Some(&[])), (2, None)])).unwrap();
    assert_eq!(found.device, format!("pci/{}", card()));
    expect![[r#"
        Parameter {
            device: "pci/0000:3b:00.0",
            value_type: Some(
                Flag,
            ),
            name: "enable_roce",
            rows: [
                DevlinkParameter {
                    name: "enable_roce",
                    mode: "driverinit",
                    value: "true",
                },
                DevlinkParameter {
                    name: "enable_roce",
                    mode: "permanent",
                    value: "false",
                },
            ],
        }
    "#]]
    .assert_debug_eq(&found);
    let number = parse_parameter(&answer(3, &[(0, Some(&[8, 0, 0, 0]))])).unwrap();
    assert_eq!(number.rows[0].value, "8");
    let text = parse_parameter(&answer(5, &[(0, Some(b"smfs\0"))])).unwrap();
    assert_eq!(text.rows[0].value, "smfs");
}

#[test]
fn a_type_that_we_do_not_know_has_no_value() {
    let found = parse_parameter(&answer(99, &[(0, Some(&[1, 2]))])).unwrap();
    assert_eq!((found.value_type, found.rows[0].value.as_str()), (None, ""));
}

#[test]
fn a_flag_is_true_by_being_there() {
    let on = set_parameter(FAMILY, &card(), ValueType::Flag, &wanted("true")).unwrap();
    let off = set_parameter(FAMILY, &card(), ValueType::Flag, &wanted("false")).unwrap();
    assert_eq!(on.payload.len() - off.payload.len(), 4);
}

#[test]
fn a_value_that_is_none_is_refused_by_name() {
    let error = |value_type, parameter: DevlinkParameter| {
        set_parameter(FAMILY, &card(), value_type, &parameter).unwrap_err().to_string()
    };
    assert_eq!(error(ValueType::U8, wanted("300")), "\"300\" is no value of enable_roce");
    assert_eq!(
        error(ValueType::Flag, wanted("1")),
        "\"1\" is no value of enable_roce; write true or false"
    );
    let mode = DevlinkParameter { mode: "now".to_owned(), ..wanted("1") };
    assert_eq!(
        error(ValueType::U8, mode),
        "\"now\" is no mode of a parameter; write runtime, driverinit or permanent"
    );
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let _ = (parse_family(&bytes), parse_eswitch(&bytes), parse_parameter(&bytes));
    }

    #[test]
    fn a_good_parameter_with_a_broken_byte_gives_an_answer_or_an_error(at in 0usize..100, byte in any::<u8>(), cut in 0usize..100) {
        let mut bytes = answer(3, &[(0, Some(&[8, 0, 0, 0]))]);
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        let _ = parse_parameter(&bytes);
    }
}

#[test]
fn the_parameters_are_asked_of_one_device_so_that_no_other_card_is_waited_for() {
    let request = parameter_query(FAMILY, &card(), "total_vfs");
    assert_eq!((request.kind, request.payload[0]), (FAMILY, PARAM_GET));
    assert_eq!(request.flags & DUMP, 0);
    assert_eq!(request.payload[HEADER..], handle(&card()).text(PARAM_NAME, "total_vfs").done());
}
