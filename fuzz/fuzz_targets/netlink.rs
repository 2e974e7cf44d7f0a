//! What the kernel, or somebody in its place, answers on a netlink socket: a datagram of messages, and their payloads.
#![no_main]

use host::netlink::{Body, address, devlink, link, message, rdma, route};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Payloads by themselves too: a length that is wrong in the header would keep the fuzzer away from them.
    payload(data);
    let Ok(replies) = message::replies(data) else { return };
    for reply in replies {
        if let Body::Data { payload: inner, .. } = reply.body {
            payload(&inner);
        }
    }
});

fn payload(bytes: &[u8]) {
    let _ = link::parse(bytes);
    let _ = address::parse(bytes);
    let _ = route::parse(bytes);
    let _ = devlink::parse_family(bytes);
    let _ = devlink::parse_eswitch(bytes);
    let _ = devlink::parse_parameter(bytes);
    let _ = rdma::parse_mode(bytes);
    let _ = rdma::parse_device(bytes);
    let _ = rdma::parse_port(bytes);
    for resource in rdma::RESOURCES {
        let _ = rdma::parse_owners(resource, bytes);
    }
    let _ = rdma::parse_counts(rdma::COUNTERS, bytes);
    let _ = rdma::parse_counts(rdma::SUMMARY, bytes);
}
