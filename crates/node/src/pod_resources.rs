//! Shell: asks the kubelet which pod was given which device.

use crate::holders;
use crate::proto::v1::pod_resources_lister_client::PodResourcesListerClient;
use crate::proto::v1::{ListPodResourcesRequest, ListPodResourcesResponse};
use api::custody::Holder;
use std::path::Path;
use std::time::Duration;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// The kubelet's socket below its directory.
pub const SOCKET: &str = "pod-resources/kubelet.sock";
/// The kubelet answers from memory; a kubelet that needs longer counts as silent.
const PATIENCE: Duration = Duration::from_secs(10);
/// 16 MiB, as Multus allows: a node with thousands of containers.
const LARGEST: usize = 16 << 20;

/// A channel to a unix socket.
pub async fn connect(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    endpoint(socket)?.connect().await
}

/// A channel that connects when it is first used, and again when it was lost.
pub fn channel(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    Ok(endpoint(socket)?.connect_lazy())
}

fn endpoint(socket: &Path) -> Result<Endpoint, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?;
    Ok(endpoint.connect_timeout(PATIENCE).timeout(PATIENCE))
}

/// Holders by PodResources, or the sentence that says why there is no answer.
pub async fn list(socket: &Path) -> Result<Vec<Holder>, String> {
    let failed = |why: String| format!("cannot ask the kubelet at {}: {why}", socket.display());
    let channel = connect(socket).await.map_err(|error| failed(in_full(&error)))?;
    let response = ask(channel).await.map_err(|status| failed(status.message().to_owned()))?;
    Ok(holders::of_pod_resources(&response))
}

/// The whole list.
pub async fn ask(channel: Channel) -> Result<ListPodResourcesResponse, Status> {
    let mut client = PodResourcesListerClient::new(channel).max_decoding_message_size(LARGEST);
    Ok(client.list(ListPodResourcesRequest {}).await?.into_inner())
}

/// An error with its causes; tonic's own text says only `transport error`.
pub fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
