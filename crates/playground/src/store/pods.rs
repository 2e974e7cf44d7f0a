//! What `logs`, `exec` and `attach` aim at: one container of a pod that runs somewhere.

use super::object::{self, at, text};
use super::{Refusal, Store, User};
use api::wire::{Request, Response};
use jiff::Timestamp;
use serde_json::Value;

/// A container that a request reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerTarget {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    pub node: String,
    pub container: String,
}

impl Store {
    /// Finds the container that a request on `pods/log`, `pods/exec` or `pods/attach` means, if `who` may reach it.
    pub fn container(
        &mut self,
        now: Timestamp,
        who: &User,
        request: &Request,
    ) -> Result<ContainerTarget, Response> {
        self.find_container(now, who, request).map_err(|refusal| refusal.response())
    }

    fn find_container(
        &mut self,
        now: Timestamp,
        who: &User,
        request: &Request,
    ) -> Result<ContainerTarget, Refusal> {
        let call = self.call(now, who, request)?;
        // The websocket of an exec opens with GET; the right is the same as for POST.
        let verb = if call.address.subresource == "log" { "get" } else { "create" };
        self.authorize(who, &Self::attributes(&call, verb))?;
        let pod = self.target(&call)?;
        let name = object::name(&pod);
        let asked = request.query.get("container").map(String::as_str).unwrap_or_default();
        let names = container_names(&pod, "containers");
        let started_before = container_names(&pod, "initContainers");
        let container = match (asked, names.as_slice()) {
            ("", [only]) => (*only).to_owned(),
            ("", many) => default_container(&pod, many).ok_or_else(|| {
                Refusal::bad_request(format!(
                    "a container name must be specified for pod {name}, choose one of: [{}]",
                    many.join(" ")
                ))
            })?,
            (asked, names) if names.contains(&asked) || started_before.contains(&asked) => {
                asked.to_owned()
            }
            (asked, _) => {
                let message = format!("container {asked} is not valid for pod {name}");
                return Err(Refusal::bad_request(message));
            }
        };
        let node = text(&pod, &["spec", "nodeName"]).to_owned();
        if node.is_empty() {
            return Err(Refusal::bad_request(format!("pod {name} does not have a host assigned")));
        }
        Ok(ContainerTarget {
            namespace: object::namespace(&pod).to_owned(),
            pod: name.to_owned(),
            uid: object::uid(&pod).to_owned(),
            node,
            container,
        })
    }
}

fn container_names<'a>(pod: &'a Value, list: &str) -> Vec<&'a str> {
    let containers = at(pod, &["spec", list]).and_then(Value::as_array).into_iter().flatten();
    containers.map(|container| text(container, &["name"])).collect()
}

/// The container that the pod itself names as its default one.
fn default_container(pod: &Value, names: &[&str]) -> Option<String> {
    let wanted = text(pod, &["metadata", "annotations", "kubectl.kubernetes.io/default-container"]);
    names.contains(&wanted).then(|| wanted.to_owned())
}
