//! Our gRPC messages against the kubelet's and the container runtime's: name, number and type of each field, and the paths of the calls.
//!
//! The tables are facts, written down from Kubernetes' own files; what we generate code from is `proto/`, in our words.
//! A field number that is wrong would be read as another field, or as none, without any error.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;

/// kubernetes/kubernetes, staging/src/k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1/api.proto, as of commit
/// 0619cbbff1ffe94b1745682e1cd1aea1e68cce97. Complete.
const DEVICE_PLUGIN: &str = "
    DevicePluginOptions pre_start_required 1 bool
    DevicePluginOptions get_preferred_allocation_available 2 bool
    RegisterRequest version 1 string
    RegisterRequest endpoint 2 string
    RegisterRequest resource_name 3 string
    RegisterRequest options 4 DevicePluginOptions
    ListAndWatchResponse devices 1 repeated Device
    TopologyInfo nodes 1 repeated NUMANode
    NUMANode ID 1 int64
    Device ID 1 string
    Device health 2 string
    Device topology 3 TopologyInfo
    PreStartContainerRequest devices_ids 1 repeated string
    PreferredAllocationRequest container_requests 1 repeated ContainerPreferredAllocationRequest
    ContainerPreferredAllocationRequest available_deviceIDs 1 repeated string
    ContainerPreferredAllocationRequest must_include_deviceIDs 2 repeated string
    ContainerPreferredAllocationRequest allocation_size 3 int32
    PreferredAllocationResponse container_responses 1 repeated ContainerPreferredAllocationResponse
    ContainerPreferredAllocationResponse deviceIDs 1 repeated string
    AllocateRequest container_requests 1 repeated ContainerAllocateRequest
    ContainerAllocateRequest devices_ids 1 repeated string
    CDIDevice name 1 string
    AllocateResponse container_responses 1 repeated ContainerAllocateResponse
    ContainerAllocateResponse envs 1 map string string
    ContainerAllocateResponse mounts 2 repeated Mount
    ContainerAllocateResponse devices 3 repeated DeviceSpec
    ContainerAllocateResponse annotations 4 map string string
    ContainerAllocateResponse cdi_devices 5 repeated CDIDevice
    Mount container_path 1 string
    Mount host_path 2 string
    Mount read_only 3 bool
    DeviceSpec container_path 1 string
    DeviceSpec host_path 2 string
    DeviceSpec permissions 3 string
";

/// kubernetes/kubernetes, staging/src/k8s.io/kubelet/pkg/apis/podresources/v1/api.proto, as of commit
/// 95f08499d652a6211121d8af35f470609217c730: what List answers. We leave out what we do not read.
const POD_RESOURCES: &str = "
    ListPodResourcesResponse pod_resources 1 repeated PodResources
    PodResources name 1 string
    PodResources namespace 2 string
    PodResources containers 3 repeated ContainerResources
    ContainerResources name 1 string
    ContainerResources devices 2 repeated ContainerDevices
    ContainerResources cpu_ids 3 repeated int64
    ContainerResources memory 4 repeated ContainerMemory
    ContainerResources dynamic_resources 5 repeated DynamicResource
    ContainerMemory memory_type 1 string
    ContainerMemory size 2 uint64
    ContainerMemory topology 3 TopologyInfo
    ContainerDevices resource_name 1 string
    ContainerDevices device_ids 2 repeated string
    ContainerDevices topology 3 TopologyInfo
    TopologyInfo nodes 1 repeated NUMANode
    NUMANode ID 1 int64
    DynamicResource claim_name 2 string
    DynamicResource claim_namespace 3 string
    DynamicResource claim_resources 4 repeated ClaimResource
    ClaimResource cdi_devices 1 repeated CDIDevice
    ClaimResource driver_name 2 string
    ClaimResource pool_name 3 string
    ClaimResource device_name 4 string
    CDIDevice name 1 string
";

/// kubernetes/cri-api, pkg/apis/runtime/v1/api.proto, as of commit 791729b255f0c2d0019d3862ba6ef000c4a30c4d: the messages of
/// Version, Status and ListPodSandbox. We leave out what we do not read.
const RUNTIME: &str = "
    VersionRequest version 1 string
    VersionResponse version 1 string
    VersionResponse runtime_name 2 string
    VersionResponse runtime_version 3 string
    VersionResponse runtime_api_version 4 string
    StatusRequest verbose 1 bool
    StatusResponse status 1 RuntimeStatus
    StatusResponse info 2 map string string
    StatusResponse runtime_handlers 3 repeated RuntimeHandler
    StatusResponse features 4 RuntimeFeatures
    ListPodSandboxRequest filter 1 PodSandboxFilter
    ListPodSandboxResponse items 1 repeated PodSandbox
    PodSandbox id 1 string
    PodSandbox metadata 2 PodSandboxMetadata
    PodSandbox state 3 PodSandboxState
    PodSandbox created_at 4 int64
    PodSandbox labels 5 map string string
    PodSandbox annotations 6 map string string
    PodSandbox runtime_handler 7 string
";

/// Rust spells names in its own way: `NumaNode`, `device_i_ds`.
fn spelled(text: &str) -> String {
    text.to_lowercase().replace('_', "")
}

fn table(text: &str) -> BTreeSet<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(spelled).collect()
}

/// The fields of the generated code, in the form of the tables.
fn generated(code: &str) -> BTreeSet<String> {
    let structs = code.split("pub struct ").skip(1);
    structs.flat_map(fields).map(|field| spelled(&field)).collect()
}

/// `#[prost(message, repeated, tag = "1")] pub nodes: Vec<NumaNode>,` for each field of one struct.
fn fields(text: &str) -> Vec<String> {
    let (name, body) = text.split_once('{').unwrap();
    let body = body.split("\n}").next().unwrap();
    let fields = body.split("#[prost(").skip(1).map(|field| {
        let (attribute, rest) = field.split_once(")]").unwrap();
        let (field, kind) = rest.split_once("pub ").unwrap().1.split_once(':').unwrap();
        let words: Vec<&str> = attribute.split(", ").map(str::trim).collect();
        let number = words.iter().find_map(|word| word.strip_prefix("tag = ")).unwrap();
        let repeated = if words.contains(&"repeated") { "repeated " } else { "" };
        // The innermost type: `::prost::alloc::vec::Vec<NumaNode>,` up to the next field's text.
        let kind: String = kind.split("///").next().unwrap().split_whitespace().collect();
        let innermost = kind.trim_end_matches([',', '>']).rsplit(['<', ':']).next().unwrap();
        let kind = match words[0] {
            "message" => innermost.to_owned(),
            map if map.starts_with("btree_map") => "map string string".to_owned(),
            plain => plain.to_owned(),
        };
        format!("{} {field} {} {repeated}{kind}", name.trim(), number.trim_matches('"'))
    });
    fields.collect()
}

fn calls(code: &str) -> BTreeSet<&str> {
    let is_call = |text: &&str| {
        ["/v1", "/runtime.v1"].iter().any(|package| text.starts_with(package))
            && text.matches('/').count() == 2
    };
    code.split('"').filter(is_call).collect()
}

#[test]
fn every_field_of_the_device_plugins_messages_is_the_kubelets() {
    let code = include_str!("../src/proto/v1beta1.rs");
    assert_eq!(generated(code), table(DEVICE_PLUGIN));
    let expected = [
        "/v1beta1.DevicePlugin/Allocate",
        "/v1beta1.DevicePlugin/GetDevicePluginOptions",
        "/v1beta1.DevicePlugin/GetPreferredAllocation",
        "/v1beta1.DevicePlugin/ListAndWatch",
        "/v1beta1.DevicePlugin/PreStartContainer",
        "/v1beta1.Registration/Register",
    ];
    assert_eq!(calls(code), expected.into());
}

#[test]
fn every_field_that_we_read_of_pod_resources_is_the_kubelets() {
    let code = include_str!("../src/proto/v1.rs");
    let (ours, theirs) = (generated(code), table(POD_RESOURCES));
    let others: Vec<&String> = ours.difference(&theirs).collect();
    assert!(
        others.is_empty() && ours.len() == 15,
        "{} fields, of which other: {others:?}",
        ours.len()
    );
    assert_eq!(calls(code), ["/v1.PodResourcesLister/List"].into());
}

#[test]
fn every_field_that_we_use_of_the_container_runtimes_messages_is_theirs() {
    let code = include_str!("../src/proto/runtime.v1.rs");
    let (ours, theirs) = (generated(code), table(RUNTIME));
    let others: Vec<&String> = ours.difference(&theirs).collect();
    assert!(
        others.is_empty() && ours.len() == 6,
        "{} fields, of which other: {others:?}",
        ours.len()
    );
    let expected = ["ListPodSandbox", "Status", "Version"];
    let expected = expected.map(|call| format!("/runtime.v1.RuntimeService/{call}"));
    assert_eq!(calls(code), expected.iter().map(String::as_str).collect());
}
