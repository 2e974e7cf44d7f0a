//! The way into containers: logs from memory, and programs of `exec` that look at the machine from inside the pod.

use super::log::Logs;
use crate::cluster::applets;
use crate::cluster::cluster::Cluster;
use crate::cluster::objects;
use crate::http::{Ended, Exec, PodShell, Shared};
use api::wire::ObjectKey;
use host::sim::SimHost;
use host::{Host, Namespace};
use std::sync::{Arc, Mutex, PoisonError};

pub struct Shell {
    pub shared: Arc<Shared>,
    pub cluster: Arc<Mutex<Cluster>>,
    pub logs: Logs,
}

impl PodShell for Shell {
    fn log(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        from: usize,
    ) -> Result<(usize, Vec<u8>), String> {
        Ok(self.logs.of(namespace, pod, container).since(from))
    }

    fn exec(&self, exec: &Exec) -> Result<Ended, String> {
        let key = ObjectKey::new("v1", "Pod", &exec.namespace, &exec.pod);
        let pod = self.shared.store().object(&key).cloned();
        let pod = pod.ok_or_else(|| format!("pods \"{}\" not found", exec.pod))?;
        let node = objects::text(&pod, "/spec/nodeName").to_owned();
        let (container, host) = {
            let cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
            let slot = cluster.nodes.get(&node).filter(|slot| slot.is_up());
            let slot = slot.ok_or_else(|| format!("error dialing backend: node {node} is down"))?;
            let container = slot.kubelet.container(objects::uid(&pod), &exec.container).cloned();
            (container, slot.kubelet.host.process())
        };
        let container =
            container.ok_or_else(|| format!("container not found (\"{}\")", exec.container))?;
        let view: SimHost = match container.network.is_empty() {
            true => host,
            false => {
                let nodes = container
                    .device_nodes
                    .iter()
                    .filter_map(|path| host.device_node(path))
                    .collect();
                host.in_pod(&Namespace::At(container.network.clone()), nodes)
                    .map_err(|e| e.to_string())?
            }
        };
        let inside = applets::Pod {
            host: &view as &dyn Host,
            environment: &container.environment,
            image: applets::Image::of(&container.command),
        };
        let finished =
            applets::run(&inside, &exec.command).unwrap_or_else(|| missing(&exec.command));
        Ok(Ended {
            stdout: finished.stdout,
            stderr: finished.stderr.into_bytes(),
            status: finished.status,
        })
    }
}

/// What a container runtime says of a program that the image does not have.
fn missing(command: &[String]) -> applets::Finished {
    let program = command.first().map_or("", String::as_str);
    applets::Finished {
        stderr: format!("exec: \"{program}\": executable file not found in $PATH: unknown\n"),
        status: 127,
        ..applets::Finished::default()
    }
}
