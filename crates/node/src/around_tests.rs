//! Preferences while the kubelet is silent, and after it has spoken.

#![allow(clippy::disallowed_methods, reason = "the socket is a file of this computer")]

use super::*;
use crate::proto::v1::pod_resources_lister_server::{PodResourcesLister, PodResourcesListerServer};
use crate::proto::v1::{
    ContainerDevices, ContainerResources, ListPodResourcesRequest, ListPodResourcesResponse,
    PodResources,
};
use crate::proto::v1beta1::ContainerPreferredAllocationRequest;
use api::custody::{OfferState, OfferedDevice};
use host::crashing::{Crashing, Death};
use host::sim::{Flavour, Function, FunctionKind, Machine, SimHost};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

const RESOURCE: &str = "openshift.io/rdma_vf";
const FAR: &str = "0000:3b:00.2";
const NEAR: &str = "0000:af:00.2";
const GPU: &str = "0000:b1:00.0";

/// A kubelet that has given a GPU to one pod by the time of its third answer, and answers as often as it may.
#[derive(Clone)]
struct Kubelet {
    asked: Arc<AtomicUsize>,
    may_answer: Arc<Semaphore>,
}

#[tonic::async_trait]
impl PodResourcesLister for Kubelet {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        let before = self.asked.fetch_add(1, Ordering::SeqCst);
        self.may_answer.acquire().await.unwrap().forget();
        let devices = vec![ContainerDevices {
            resource_name: "amd.com/gpu".to_owned(),
            device_ids: vec![GPU.to_owned()],
            topology: None,
        }];
        let containers = vec![ContainerResources { devices, ..ContainerResources::default() }];
        let pod = PodResources { name: "train".to_owned(), containers, ..PodResources::default() };
        let pod_resources = (before > 1).then_some(pod).into_iter().collect();
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }
}

/// Two cards, and a GPU beside the second.
fn machine() -> Machine {
    let mut machine = Machine::rdma_worker("worker-0", Flavour::Rhel, api::Timestamp::UNIX_EPOCH);
    let card = machine.functions[&"0000:af:00.0".parse().unwrap()].clone();
    let gpu = Function { class: 0x03_8000, kind: FunctionKind::Bridge, ..card };
    machine.functions.insert(GPU.parse().unwrap(), gpu);
    machine
}

fn offer() -> Offer {
    let device = |id: &str| {
        let pci: PciAddress = id.parse().unwrap();
        OfferedDevice {
            pci,
            state: OfferState::Ready,
            numa_node: Some(0),
            parent: PciAddress { function: 0, ..pci },
            vf: None,
            driver: None,
            rdma_device: None,
            profile: None,
        }
    };
    let devices = vec![device(FAR), device(NEAR)];
    let resource = OfferedResource { devices, ..OfferedResource::default() };
    Offer { resources: BTreeMap::from([(RESOURCE.to_owned(), resource)]), ..Offer::default() }
}

fn preferred(around: &Around) -> String {
    let container = ContainerPreferredAllocationRequest {
        available_device_i_ds: vec![FAR.to_owned(), NEAR.to_owned()],
        must_include_device_i_ds: Vec::new(),
        allocation_size: 1,
    };
    let request = PreferredAllocationRequest { container_requests: vec![container] };
    around.preferred(RESOURCE, &request).container_responses[0].device_i_ds.join(" ")
}

/// Lets the looks go on until something is so.
async fn until(around: &Around, is_so: impl Fn() -> bool) {
    let seen = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        never = around.keep() => match never {},
        () = seen => {}
    }
}

#[tokio::test]
async fn a_preference_waits_for_no_kubelet_and_reads_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("pods.sock");
    let kubelet = Kubelet { asked: Arc::default(), may_answer: Arc::new(Semaphore::new(0)) };
    let server = Server::builder()
        .add_service(PodResourcesListerServer::new(kubelet.clone()))
        .serve_with_incoming(UnixListenerStream::new(UnixListener::bind(&socket).unwrap()));
    let server = tokio::spawn(async move { server.await.unwrap() });

    let host = Arc::new(Crashing::new(SimHost::threaded(machine()), Death::Unwind));
    let around = Around::new(host.clone(), pod_resources::channel(&socket).unwrap());
    around.take_offer(&offer());
    let asked = |times: usize| {
        let asked = Arc::clone(&kubelet.asked);
        move || asked.load(Ordering::SeqCst) == times
    };
    // Asked, it says nothing.
    until(&around, asked(1)).await;
    let before = host.count();
    assert_eq!(preferred(&around), FAR);
    assert_eq!(preferred(&around), FAR);
    assert_eq!(host.count(), before, "a request read the host");

    // Its first list tells what was there before; the second has the new pod.
    kubelet.may_answer.add_permits(100);
    around.stir();
    until(&around, || preferred(&around) == NEAR).await;

    // Silent again: what is known stays good until devices are given.
    server.abort();
    std::fs::remove_file(&socket).unwrap();
    let before = host.count();
    assert_eq!(preferred(&around), NEAR);
    around.given();
    assert_eq!(preferred(&around), FAR, "the pod with the GPU may have its device now");
    assert_eq!(host.count(), before, "a request read the host");
}

#[tokio::test]
async fn only_on_a_node_with_gpus_the_kubelet_is_asked() {
    let without = Machine::rdma_worker("worker-0", Flavour::Rhel, api::Timestamp::UNIX_EPOCH);
    for (machine, expected) in [(machine(), true), (without, false)] {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("pods.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let around = Around::new(
            Arc::new(SimHost::threaded(machine)),
            pod_resources::channel(&socket).unwrap(),
        );
        around.take_offer(&offer());
        assert_eq!(preferred(&around), FAR);
        let patience = Duration::from_millis(if expected { 10_000 } else { 300 });
        let asked = tokio::select! {
            never = around.keep() => match never {},
            asked = tokio::time::timeout(patience, listener.accept()) => asked.is_ok(),
        };
        assert_eq!(asked, expected);
    }
}
