use super::*;
use crate::seam::Namespace;
use expect_test::expect;
use proptest::prelude::*;

#[test]
fn the_mode_is_asked_for_and_set_as_the_rdma_tool_does() {
    assert_eq!(mode_query(), Request { kind: 0x1406, flags: 5, payload: Vec::new() });
    let request = change(&RdmaChange::Mode(RdmaMode::Exclusive), None).unwrap();
    assert_eq!(
        (request.kind, request.payload.as_slice()),
        (0x1407, [5, 0, 66, 0, 0, 0, 0, 0].as_slice())
    );
}

#[test]
fn a_mode_is_read_back_as_it_was_written() {
    for mode in [RdmaMode::Shared, RdmaMode::Exclusive] {
        let request = change(&RdmaChange::Mode(mode), None).unwrap();
        assert_eq!(parse_mode(&request.payload), Ok(mode));
    }
}

#[test]
fn a_kernel_that_tells_no_mode_is_shared() {
    assert_eq!(parse_mode(&[]), Ok(RdmaMode::Shared));
}

#[test]
fn a_move_names_the_device_and_the_open_namespace() {
    let to = Namespace::At("/var/run/netns/pod".to_owned());
    let request = change(&RdmaChange::Move { device: 5, to: to.clone() }, Some(9)).unwrap();
    assert_eq!(request.kind, 0x1402);
    assert_eq!(request.payload, [8, 0, 1, 0, 5, 0, 0, 0, 8, 0, 68, 0, 9, 0, 0, 0]);
    let error = change(&RdmaChange::Move { device: 5, to }, None).unwrap_err();
    assert_eq!(error.to_string(), "a move needs its target");
}

#[test]
fn a_rename_names_the_device_and_its_new_name() {
    let request =
        change(&RdmaChange::Rename { device: 5, name: "rdma0".to_owned() }, None).unwrap();
    assert_eq!(&request.payload[8..], [10, 0, 2, 0, b'r', b'd', b'm', b'a', b'0', 0, 0, 0]);
}

#[test]
fn a_device_is_read_with_its_guids() {
    let payload = Writer::new()
        .u32(DEV_INDEX, 3)
        .text(DEV_NAME, "mlx5_0")
        .u32(PORT_INDEX, 1)
        .bytes(NODE_GUID, &0x506b_4b03_00c1_2345u64.to_ne_bytes())
        .bytes(SYS_IMAGE_GUID, &7u64.to_ne_bytes())
        .done();
    expect![[r#"
        RdmaDevice {
            index: 3,
            name: "mlx5_0",
            node_guid: 5794807821811917637,
            system_image_guid: 7,
        }
    "#]]
    .assert_debug_eq(&parse_device(&payload).unwrap());
    assert_eq!(parse_device(&[]).unwrap_err().to_string(), "an RDMA device has no name");
}

#[test]
fn a_port_is_read_in_the_words_of_the_rdma_tool() {
    let payload = Writer::new()
        .u32(DEV_INDEX, 3)
        .u32(PORT_INDEX, 1)
        .u8(PORT_STATE, 4)
        .u8(PORT_PHYS_STATE, 5)
        .u32(NDEV_INDEX, 12)
        .text(NDEV_NAME, "eth2")
        .done();
    expect![[r#"
        RdmaPort {
            number: 1,
            state: "ACTIVE",
            physical_state: "LINK_UP",
            netdev: Some(
                12,
            ),
            netdev_name: Some(
                "eth2",
            ),
        }
    "#]]
    .assert_debug_eq(&parse_port(&payload).unwrap());
    let unknown = Writer::new().u8(PORT_STATE, 200).done();
    assert_eq!(parse_port(&unknown).unwrap().state, "UNKNOWN");
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = (parse_mode(&bytes), parse_device(&bytes), parse_port(&bytes));
        RESOURCES.iter().for_each(|resource| _ = parse_owners(*resource, &bytes));
        let _ = (parse_counts(COUNTERS, &bytes), parse_counts(SUMMARY, &bytes));
    }
}

#[test]
fn the_owners_of_resources_are_read_from_nested_tables() {
    let [domains, pairs, _] = RESOURCES;
    let query = owners_query(pairs, 3);
    assert_eq!(
        (query.kind, query.payload.as_slice()),
        (0x140a, [8, 0, 1, 0, 3, 0, 0, 0].as_slice())
    );
    let entry = |writer: Writer| Writer::new().nest(20, writer.u32(21, 1));
    let kernel = entry(Writer::new().text(RES_KERN_NAME, "nvme_rdma")).done();
    let process = entry(Writer::new().u32(RES_PID, 812)).done();
    let gone = entry(Writer::new()).done();
    let table = [kernel, process, gone].concat();
    let payload = Writer::new().text(DEV_NAME, "mlx5_0").bytes(RES_QP, &table).done();
    assert_eq!(
        parse_owners(pairs, &payload),
        Ok(vec![RdmaOwner::Kernel("nvme_rdma".to_owned()), RdmaOwner::Process(812)])
    );
    assert_eq!(parse_owners(domains, &payload), Ok(vec![]), "another kind's table");
}

#[test]
fn counters_and_resources_are_read_from_tables_of_names_and_numbers() {
    let (counters, resources) = (counters_query(3, 1), resources_query(3));
    assert_eq!((counters.kind, resources.kind), (0x1411, 0x1409));
    assert_eq!(counters.payload, [8, 0, 1, 0, 3, 0, 0, 0, 8, 0, 3, 0, 1, 0, 0, 0]);
    // As fill_res_info_entry and rdma_nl_stat_hwcounter_entry of the kernel write them (drivers/infiniband/core/nldev.c).
    let number = |value: u64| value.to_ne_bytes();
    let entry = |kind: u16, name: u16, text: &str, value: u64| {
        let inner = Writer::new().text(name, text).bytes(name + 1, &number(value));
        Writer::new().nest(kind, inner).done()
    };
    let table = [entry(16, 17, "pd", 2), entry(16, 17, "qp", 5)].concat();
    let summary = Writer::new().u32(DEV_INDEX, 3).bytes(RES_SUMMARY, &table).done();
    let table = [entry(81, 82, "out_of_buffer", 7), Writer::new().nest(81, Writer::new()).done()];
    let statistic = Writer::new().u32(PORT_INDEX, 1).bytes(80, &table.concat()).done();
    let count = |name: &str, value| RdmaCount { name: name.to_owned(), value };
    assert_eq!(parse_counts(SUMMARY, &summary), Ok(vec![count("pd", 2), count("qp", 5)]));
    assert_eq!(parse_counts(COUNTERS, &statistic), Ok(vec![count("out_of_buffer", 7)]));
    assert_eq!(parse_counts(COUNTERS, &summary), Ok(vec![]), "another table");
}
