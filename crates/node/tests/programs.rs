//! `cat` and `rdma` of our image on a simulated machine: what the guide types into the config daemon's pod.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use api::Timestamp;
use expect_test::{Expect, expect};
use host::Host;
use host::sim::{Flavour, Machine, SimHost};
use node::programs;

/// A machine of the playground with two VFs on its first card.
fn machine() -> SimHost {
    let host =
        SimHost::new(Machine::rdma_worker("worker-0", Flavour::Ubuntu, Timestamp::UNIX_EPOCH));
    host.write("/sys/class/net/enp3s0f0/device/sriov_numvfs", "2").unwrap();
    host
}

fn check(line: &str, expected: Expect) {
    let host = machine();
    let words: Vec<&str> = line.split(' ').collect();
    let finished = programs::run(&host, words[0], &words[1..]).unwrap();
    expected.assert_eq(&format!(
        "{}{}[{}]",
        String::from_utf8_lossy(&finished.stdout),
        finished.stderr,
        finished.status
    ));
}

#[test]
fn a_pattern_that_no_shell_expanded_finds_the_functions_that_have_the_file() {
    check(
        "cat /sys/class/infiniband/*/device/sriov_numvfs",
        expect![[r#"
        0
        2
        0
        0
        0
        [0]"#]],
    );
}

#[test]
fn a_file_by_its_name_is_shown_and_one_that_is_not_there_is_named() {
    check(
        "/usr/bin/cat /sys/class/net/enp3s0f0/device/sriov_numvfs",
        expect![[r#"
        2
        [0]"#]],
    );
    check(
        "cat /sys/class/net/enp3s0f0/device/sriov_numvf",
        expect![[r#"
        cat: /sys/class/net/enp3s0f0/device/sriov_numvf: No such file or directory
        [1]"#]],
    );
    check(
        "cat /sys/class/infiniband/*/device/nothing",
        expect![[r#"
        cat: /sys/class/infiniband/*/device/nothing: No such file or directory
        [1]"#]],
    );
    check(
        "cat",
        expect![[r#"
        cat: name a file; this cat reads no standard input
        [1]"#]],
    );
}

#[test]
fn rdma_prints_links_devices_and_the_mode_as_iproute2_does() {
    check(
        "rdma link show",
        expect![[r#"
        link mlx5_0/1 state ACTIVE physical_state LINK_UP netdev enp3s0f0 
        link mlx5_1/1 state ACTIVE physical_state LINK_UP netdev enp3s0f1 
        link mlx5_2/1 state ACTIVE physical_state LINK_UP netdev enp59s0 
        link irdma0/1 state ACTIVE physical_state LINK_UP netdev enp94s0 
        link mlx5_3/1 state ACTIVE physical_state LINK_UP netdev enp175s0 
        link mlx5_4/1 state DOWN physical_state DISABLED netdev enp3s0f0v0 
        link mlx5_5/1 state DOWN physical_state DISABLED netdev enp3s0f0v1 
        [0]"#]],
    );
    check(
        "rdma link show mlx5_0/1",
        expect![[r#"
        link mlx5_0/1 state ACTIVE physical_state LINK_UP netdev enp3s0f0 
        [0]"#]],
    );
    check(
        "rdma dev show mlx5_9",
        expect![[r#"
        Wrong device name mlx5_9
        [1]"#]],
    );
    check(
        "rdma system",
        expect![[r#"
        netns shared
        [0]"#]],
    );
}

#[test]
fn rdma_prints_counters_and_resources_as_iproute2_does() {
    check(
        "rdma statistic show link mlx5_0/1",
        expect![[r#"
        link mlx5_0/1 duplicate_request 1 lifespan 10 np_cnp_sent 1 out_of_buffer 1 out_of_sequence 1 packet_seq_err 1 rnr_nak_retry_err 1 rx_write_requests 1 
        [0]"#]],
    );
    check(
        "rdma resource show mlx5_0",
        expect![[r#"
        1: mlx5_0: pd 1 cq 1 qp 1 cm_id 0 mr 0 ctx 0 srq 0 
        [0]"#]],
    );
    check(
        "rdma statistic show link mlx5_9/1",
        expect![[r#"
        Wrong device name mlx5_9/1
        [1]"#]],
    );
}

#[test]
fn there_is_no_other_program() {
    assert_eq!(programs::run(&machine(), "ls", &["/"]), None);
}

#[test]
fn a_file_of_any_bytes_comes_out_as_it_is() {
    let host = machine();
    host.replace("/tmp/blob", b"\x7fELF\xff\x00", 0o644).unwrap();
    let finished = programs::run(&host, "cat", &["/tmp/blob"]).unwrap();
    assert_eq!(finished.stdout, b"\x7fELF\xff\x00");
}
