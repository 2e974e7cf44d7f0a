//! What a kubelet says to its container runtime (CRI, `runtime.v1`), as far as the lab's cases need it.
//!
//! Only the fields that are set or read here, by their numbers in Kubernetes' `cri-api`; the runtime takes the rest as
//! unset.

use prost::Message;
use std::collections::BTreeMap;
use tokio::runtime::Handle;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;

pub const SOCKET: &str = "/run/containerd/containerd.sock";

#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub uid: String,
    #[prost(string, tag = "3")]
    pub namespace: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct SandboxConfig {
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<Metadata>,
    #[prost(string, tag = "2")]
    pub hostname: String,
    #[prost(message, optional, tag = "8")]
    pub linux: Option<SandboxLinux>,
}

/// Empty; a runtime expects it.
#[derive(Clone, PartialEq, Message)]
pub struct SandboxLinux {}

#[derive(Clone, PartialEq, Message)]
struct RunSandbox {
    #[prost(message, optional, tag = "1")]
    config: Option<SandboxConfig>,
}

/// The answer of RunPodSandbox and CreateContainer, and the request of all that names one of either.
#[derive(Clone, PartialEq, Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct Nothing {}

#[derive(Clone, PartialEq, Message)]
pub struct ContainerMetadata {
    #[prost(string, tag = "1")]
    pub name: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Image {
    #[prost(string, tag = "1")]
    pub image: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Mount {
    #[prost(string, tag = "1")]
    pub container_path: String,
    #[prost(string, tag = "2")]
    pub host_path: String,
    #[prost(bool, tag = "3")]
    pub readonly: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct Device {
    #[prost(string, tag = "1")]
    pub container_path: String,
    #[prost(string, tag = "2")]
    pub host_path: String,
    #[prost(string, tag = "3")]
    pub permissions: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct CdiDevice {
    #[prost(string, tag = "1")]
    pub name: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    pub image: Option<Image>,
    #[prost(message, repeated, tag = "7")]
    pub mounts: Vec<Mount>,
    #[prost(message, repeated, tag = "8")]
    pub devices: Vec<Device>,
    #[prost(message, repeated, tag = "17")]
    pub cdi_devices: Vec<CdiDevice>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainer {
    #[prost(string, tag = "1")]
    sandbox: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    sandbox_config: Option<SandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct Exec {
    #[prost(string, tag = "1")]
    container: String,
    #[prost(string, repeated, tag = "2")]
    command: Vec<String>,
    #[prost(int64, tag = "3")]
    seconds: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ExecAnswer {
    #[prost(bytes = "vec", tag = "1")]
    said: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    complained: Vec<u8>,
    #[prost(int32, tag = "3")]
    status: i32,
}

#[derive(Clone, PartialEq, Message)]
struct ImageStatus {
    #[prost(message, optional, tag = "1")]
    image: Option<Image>,
}

#[derive(Clone, PartialEq, Message)]
struct ImageAnswer {
    /// Of the image only its id.
    #[prost(message, optional, tag = "1")]
    image: Option<Id>,
}

#[derive(Clone, PartialEq, Message)]
struct Ids {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Id>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Version {
    #[prost(string, tag = "2")]
    pub runtime_name: String,
    #[prost(string, tag = "3")]
    pub runtime_version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(bool, tag = "1")]
    verbose: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StatusAnswer {
    #[prost(btree_map = "string, string", tag = "2")]
    info: BTreeMap<String, String>,
}

/// A container runtime that is asked as a kubelet asks it: one call after the other.
pub struct Cri(pub Handle);

impl Cri {
    fn call<Q, A>(&self, method: &str, request: Q) -> Result<A, String>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let path = PathAndQuery::try_from(format!("/runtime.v1.{method}")).unwrap();
        self.0.block_on(async {
            let endpoint = Endpoint::from_shared(format!("unix://{SOCKET}")).unwrap();
            let channel = endpoint.connect().await.map_err(|e| format!("{e:?}"))?;
            let mut client = tonic::client::Grpc::new(channel);
            client.ready().await.map_err(|e| format!("{e:?}"))?;
            let codec = tonic_prost::ProstCodec::<Q, A>::default();
            let answer = client.unary(tonic::Request::new(request), path, codec).await;
            let answer = answer.map_err(|status| format!("{method}: {}", status.message()))?;
            Ok(answer.into_inner())
        })
    }

    pub fn version(&self) -> Result<Version, String> {
        self.call("RuntimeService/Version", Nothing {})
    }

    /// What the runtime tells of its networks, as JSON.
    pub fn networks(&self) -> Result<String, String> {
        let answer: StatusAnswer = self.call("RuntimeService/Status", Status { verbose: true })?;
        answer.info.get("cniconfig").cloned().ok_or_else(|| "it tells of no network".to_owned())
    }

    pub fn has_image(&self, image: &str) -> Result<bool, String> {
        let image = Some(Image { image: image.to_owned() });
        let answer: ImageAnswer = self.call("ImageService/ImageStatus", ImageStatus { image })?;
        Ok(answer.image.is_some())
    }

    pub fn sandboxes(&self) -> Result<Vec<String>, String> {
        let answer: Ids = self.call("RuntimeService/ListPodSandbox", Nothing {})?;
        Ok(answer.items.into_iter().map(|sandbox| sandbox.id).collect())
    }

    pub fn run_sandbox(&self, config: &SandboxConfig) -> Result<String, String> {
        let request = RunSandbox { config: Some(config.clone()) };
        self.call("RuntimeService/RunPodSandbox", request).map(|Id { id }| id)
    }

    /// Creates and starts a container.
    pub fn run_container(
        &self,
        sandbox: &str,
        config: ContainerConfig,
        sandbox_config: &SandboxConfig,
    ) -> Result<String, String> {
        let request = CreateContainer {
            sandbox: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config.clone()),
        };
        let created: Id = self.call("RuntimeService/CreateContainer", request)?;
        let Nothing {} = self.call("RuntimeService/StartContainer", created.clone())?;
        Ok(created.id)
    }

    /// What a program says that runs in a container.
    pub fn run(&self, container: &str, command: &[&str]) -> Result<String, String> {
        let request = Exec {
            container: container.to_owned(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            seconds: 30,
        };
        let answer: ExecAnswer = self.call("RuntimeService/ExecSync", request)?;
        let said = String::from_utf8_lossy(&answer.said).into_owned();
        match answer.status {
            0 => Ok(said),
            status => Err(format!(
                "{command:?} ended with {status}: {said}{}",
                String::from_utf8_lossy(&answer.complained)
            )),
        }
    }

    /// Stops a sandbox with all that is in it, which is where the runtime calls DEL, and removes it.
    pub fn end_sandbox(&self, sandbox: &str) -> Result<(), String> {
        for method in ["StopPodSandbox", "RemovePodSandbox"] {
            let id = Id { id: sandbox.to_owned() };
            let Nothing {} = self.call(&format!("RuntimeService/{method}"), id)?;
        }
        Ok(())
    }
}
