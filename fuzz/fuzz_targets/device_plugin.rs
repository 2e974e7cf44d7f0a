//! Messages of kubelet and container runtime, as protobuf brings them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use node::holders;
use node::proto::runtime_v1::ListPodSandboxResponse;
use node::proto::v1::ListPodResourcesResponse;
use node::proto::v1beta1::{AllocateRequest, PreferredAllocationRequest};
use prost::Message;

fuzz_target!(|data: &[u8]| {
    let _ = AllocateRequest::decode(data);
    let _ = PreferredAllocationRequest::decode(data);
    let _ = ListPodSandboxResponse::decode(data);
    if let Ok(response) = ListPodResourcesResponse::decode(data) {
        let _ = holders::of_pod_resources(&response);
    }
});
