//! The kubelet's device manager: what plugins offer, what pods were given, and what the node says it has.
//!
//! Capacity counts every known device, allocatable the healthy ones of a connected plugin. What was given away is
//! remembered across restarts of either side, as the kubelet's checkpoint does. gRPC is the shell's business.

use super::objects;
use node::proto::v1beta1::ContainerAllocateResponse;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// New lists of device plugins, by resource; None where a plugin is gone.
pub type DeviceLists = Vec<(String, Option<Vec<Device>>)>;

/// One device as a plugin lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    pub id: String,
    pub healthy: bool,
    pub numa: Option<i64>,
}

/// What a plugin's Allocate adds to a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allocation {
    pub environment: BTreeMap<String, String>,
    /// Paths of device nodes in the container.
    pub device_nodes: Vec<String>,
    /// CDI names: `kind=device`.
    pub cdi: Vec<String>,
    /// (host path, container path).
    pub mounts: Vec<(String, String)>,
}

/// The way to a device plugin: gRPC in the playground, a plain call in the simulation.
pub trait Plugins {
    fn preferred(&mut self, resource: &str, available: &[String], size: usize) -> Vec<String>;
    fn allocate(&mut self, resource: &str, ids: &[String]) -> Result<Allocation, String>;
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Resource {
    connected: bool,
    devices: Vec<Device>,
}

/// Who was given a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    pub pod_uid: String,
    pub namespace: String,
    pub pod: String,
    pub container: String,
    pub resource: String,
    pub ids: Vec<String>,
    pub allocation: Allocation,
    /// PodResources lists it: not where a plain init container has it (kubelet, `podresources` `List`).
    pub listed: bool,
}

#[derive(Debug, Clone, Default)]
pub struct DeviceManager {
    resources: BTreeMap<String, Resource>,
    given: Vec<Given>,
    /// What finished pods had. Nobody has it, and PodResources of a kubelet before 1.34 lists it until the pod is deleted
    /// or the device given anew (kubelet, `UpdateAllocatedDevices`).
    ended: Vec<Given>,
    /// What is remembered has changed since it was written down.
    changed: bool,
}

impl DeviceManager {
    /// A plugin registered, or sent a new list.
    pub fn listed(&mut self, resource: &str, devices: Vec<Device>) {
        self.resources.insert(resource.to_owned(), Resource { connected: true, devices });
    }

    /// A plugin's stream ended: its devices stay in capacity and leave allocatable.
    pub fn disconnected(&mut self, resource: &str) {
        if let Some(known) = self.resources.get_mut(resource) {
            known.connected = false;
        }
    }

    pub fn all_disconnected(&mut self) {
        self.resources.values_mut().for_each(|r| r.connected = false);
    }

    /// Capacity and allocatable by resource.
    pub fn capacity(&self) -> BTreeMap<String, (usize, usize)> {
        let count = |r: &Resource| match r.connected {
            true => r.devices.iter().filter(|d| d.healthy).count(),
            false => 0,
        };
        self.resources.iter().map(|(name, r)| (name.clone(), (r.devices.len(), count(r)))).collect()
    }

    /// Gives the pod's containers what they ask for; all or nothing, in the kubelet's words when it cannot.
    pub fn admit(&mut self, pod: &Value, plugins: &mut dyn Plugins) -> Result<(), String> {
        let before = self.given.clone();
        let result = self.admit_containers(pod, plugins);
        if result.is_err() {
            // A pod that is rejected holds nothing, whatever it was given before.
            self.given = before;
            self.release(objects::uid(pod));
        }
        result
    }

    fn admit_containers(&mut self, pod: &Value, plugins: &mut dyn Plugins) -> Result<(), String> {
        let uid = objects::uid(pod);
        let init = objects::items(pod, "/spec/initContainers").iter();
        let init = init
            .map(|container| (container, objects::text(container, "/restartPolicy") == "Always"));
        let main =
            objects::items(pod, "/spec/containers").iter().map(|container| (container, true));
        for (container, listed) in init.chain(main) {
            let limits = container.pointer("/resources/limits").and_then(Value::as_object);
            for (resource, amount) in limits.into_iter().flatten() {
                let wanted = usize::try_from(objects::quantity(amount) / 1000).unwrap_or(0);
                if wanted == 0 || !self.is_ours(resource) {
                    continue;
                }
                if let Some(given) = self.given_to(uid, objects::text(container, "/name"), resource)
                {
                    self.still_healthy(resource, &given.ids)?;
                    continue;
                }
                let ids = self.choose(resource, wanted, plugins)?;
                let allocation =
                    plugins.allocate(resource, &ids).map_err(|sentence| unexpected(&sentence))?;
                self.ended.retain(|ended| !ended.ids.iter().any(|id| ids.contains(id)));
                self.changed = true;
                self.given.push(Given {
                    pod_uid: uid.to_owned(),
                    namespace: objects::namespace(pod).to_owned(),
                    pod: objects::name(pod).to_owned(),
                    container: objects::text(container, "/name").to_owned(),
                    resource: resource.clone(),
                    ids,
                    allocation,
                    listed,
                });
            }
        }
        Ok(())
    }

    /// Extended resources carry a domain that is not Kubernetes' own.
    fn is_ours(&self, resource: &str) -> bool {
        resource.contains('/') && !resource.starts_with("hugepages-")
    }

    /// A pod that comes again after a boot keeps its devices only where a plugin says that they are healthy. The order
    /// of the three refusals is the real one's (kubelet, `devicesToAllocate`).
    fn still_healthy(&self, resource: &str, ids: &[String]) -> Result<(), String> {
        let healthy = self.healthy(resource)?;
        match ids.iter().all(|id| healthy.iter().any(|device| device.id == *id)) {
            true => Ok(()),
            false => Err(unexpected(&format!(
                "previously allocated devices are no longer healthy; cannot allocate unhealthy devices {resource}"
            ))),
        }
    }

    /// The healthy devices of a resource. One that is known from the checkpoint and whose plugin is not there has none.
    fn healthy(&self, resource: &str) -> Result<Vec<&Device>, String> {
        let known = self.resources.get(resource).ok_or_else(|| {
            unexpected(&format!("cannot allocate unregistered device {resource}"))
        })?;
        let healthy: Vec<&Device> =
            known.devices.iter().filter(|device| known.connected && device.healthy).collect();
        match healthy.is_empty() {
            true => Err(unexpected(&format!(
                "no healthy devices present; cannot allocate unhealthy devices {resource}"
            ))),
            false => Ok(healthy),
        }
    }

    fn choose(
        &self,
        resource: &str,
        wanted: usize,
        plugins: &mut dyn Plugins,
    ) -> Result<Vec<String>, String> {
        let healthy = self.healthy(resource)?;
        let taken: BTreeSet<&String> =
            self.given.iter().filter(|g| g.resource == resource).flat_map(|g| &g.ids).collect();
        let free: Vec<String> =
            healthy.iter().filter(|d| !taken.contains(&d.id)).map(|d| d.id.clone()).collect();
        if free.len() < wanted {
            return Err(unexpected(&format!(
                "requested number of devices unavailable for {resource}. Requested: {wanted}, Available: {}",
                free.len()
            )));
        }
        let mut ids = plugins.preferred(resource, &free, wanted);
        ids.retain(|id| free.contains(id));
        ids.truncate(wanted);
        for id in free {
            if ids.len() < wanted && !ids.contains(&id) {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    fn given_to(&self, uid: &str, container: &str, resource: &str) -> Option<&Given> {
        self.given
            .iter()
            .find(|g| g.pod_uid == uid && g.container == container && g.resource == resource)
    }

    /// Everything that a pod was given, in order of its containers.
    pub fn of_pod<'a>(&'a self, uid: &'a str) -> impl Iterator<Item = &'a Given> {
        self.given.iter().filter(move |g| g.pod_uid == uid)
    }

    /// The pod has finished: its devices are free.
    pub fn finish(&mut self, uid: &str) {
        let (ended, given) =
            std::mem::take(&mut self.given).into_iter().partition(|g| g.pod_uid == uid);
        self.given = given;
        self.ended.extend::<Vec<Given>>(ended);
    }

    /// The pod is gone: its devices are free, and nothing is known of it any more.
    pub fn release(&mut self, uid: &str) {
        self.changed |= self.given.iter().chain(&self.ended).any(|g| g.pod_uid == uid);
        self.given.retain(|g| g.pod_uid != uid);
        self.ended.retain(|g| g.pod_uid != uid);
    }

    /// The checkpoint to be written, where it is another than the last (pkg/kubelet/cm/devicemanager/checkpoint). What
    /// plain init containers have is in it; devices without a NUMA node stand below -1.
    pub fn new_checkpoint(&mut self) -> Option<Value> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let entry = |given: &Given| {
            json!({
                "PodUID": given.pod_uid, "ContainerName": given.container,
                "ResourceName": given.resource, "DeviceIDs": { "-1": given.ids }, "AllocResp": "",
            })
        };
        let entries: Vec<Value> = self.given.iter().chain(&self.ended).map(entry).collect();
        Some(json!({
            "Data": { "PodDeviceEntries": entries, "RegisteredDevices": {} }, "Checksum": 0,
        }))
    }

    /// The kubelet knows these pods.
    pub fn forget_all_but(&mut self, uids: &[&str]) {
        self.ended.retain(|g| uids.contains(&g.pod_uid.as_str()));
    }

    /// What pods have.
    pub fn given(&self) -> &[Given] {
        &self.given
    }

    /// What the PodResources service lists.
    pub fn listed_as_given(&self) -> Vec<Given> {
        self.given.iter().chain(&self.ended).filter(|given| given.listed).cloned().collect()
    }
}

impl Given {
    /// The pod's uid, name and devices as one JSON object, for assertions and traces.
    pub fn summary(&self) -> Value {
        json!({ "pod": format!("{}/{}", self.namespace, self.pod), "resource": self.resource, "ids": self.ids })
    }
}

/// As the kubelet words every failure of an admission that is nobody's fault.
fn unexpected(why: &str) -> String {
    format!("Allocate failed due to {why}, which is unexpected")
}

/// The kubelet's reading of one container's answer.
pub fn allocation_of(given: ContainerAllocateResponse) -> Allocation {
    Allocation {
        environment: given.envs.into_iter().collect(),
        device_nodes: given.devices.into_iter().map(|d| d.container_path).collect(),
        cdi: given.cdi_devices.into_iter().map(|d| d.name).collect(),
        mounts: given.mounts.into_iter().map(|m| (m.host_path, m.container_path)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct First;
    impl Plugins for First {
        fn preferred(&mut self, _: &str, _: &[String], _: usize) -> Vec<String> {
            Vec::new()
        }
        fn allocate(&mut self, _: &str, ids: &[String]) -> Result<Allocation, String> {
            let environment = BTreeMap::from([("IDS".to_owned(), ids.join(","))]);
            Ok(Allocation { environment, ..Allocation::default() })
        }
    }

    fn pod(uid: &str, amount: &str) -> Value {
        json!({"metadata": {"name": uid, "namespace": "default", "uid": uid},
               "spec": {"containers": [{"name": "c", "resources": {"limits": {"openshift.io/r": amount, "memory": "1Gi"}}}]}})
    }

    fn two_devices() -> DeviceManager {
        let mut manager = DeviceManager::default();
        let device = |id: &str| Device { id: id.to_owned(), healthy: true, numa: None };
        manager.listed("openshift.io/r", vec![device("a"), device("b")]);
        manager
    }

    #[test]
    fn a_device_is_given_once_and_free_after_release() {
        let mut manager = two_devices();
        manager.admit(&pod("1", "1"), &mut First).unwrap();
        manager.admit(&pod("1", "1"), &mut First).unwrap();
        manager.admit(&pod("2", "1"), &mut First).unwrap();
        assert_eq!(manager.given().len(), 2);
        let refused = manager.admit(&pod("3", "1"), &mut First).unwrap_err();
        assert_eq!(
            refused,
            "Allocate failed due to requested number of devices unavailable for openshift.io/r. Requested: 1, Available: 0, which is unexpected"
        );
        manager.release("1");
        manager.admit(&pod("3", "1"), &mut First).unwrap();
        assert_eq!(manager.of_pod("3").next().unwrap().ids, ["a"]);
    }

    #[test]
    fn a_lost_plugin_keeps_capacity_and_takes_allocatable() {
        let mut manager = two_devices();
        manager.disconnected("openshift.io/r");
        assert_eq!(manager.capacity()["openshift.io/r"], (2, 0));
        assert!(manager.admit(&pod("1", "1"), &mut First).is_err());
    }

    #[test]
    fn after_a_boot_a_pod_is_admitted_again_only_with_healthy_devices() {
        let mut manager = two_devices();
        let list = |a: bool, b: bool| {
            let device = |id: &str, healthy| Device { id: id.to_owned(), healthy, numa: None };
            vec![device("a", a), device("b", b)]
        };
        let again = |manager: &mut DeviceManager| {
            let answer = manager.admit(&pod("1", "1"), &mut First);
            answer.err().unwrap_or_default().replace("Allocate failed due to ", "")
        };
        assert_eq!(again(&mut manager), "");
        let given = manager.clone();
        manager.all_disconnected();
        let refused = "no healthy devices present; cannot allocate unhealthy devices openshift.io/r, which is unexpected";
        assert_eq!(again(&mut manager), refused);
        manager = given.clone();
        manager.listed("openshift.io/r", list(false, false));
        assert_eq!(again(&mut manager), refused);
        manager = given.clone();
        manager.listed("openshift.io/r", list(false, true));
        assert_eq!(
            again(&mut manager),
            "previously allocated devices are no longer healthy; cannot allocate unhealthy devices openshift.io/r, which is unexpected"
        );
        manager = given;
        manager.listed("openshift.io/r", list(true, false));
        assert_eq!(again(&mut manager), "");
        let mut strange = pod("2", "1");
        strange["spec"]["containers"][0]["resources"]["limits"] = json!({"openshift.io/x": "1"});
        let answer = manager.admit(&strange, &mut First);
        assert_eq!(
            answer.unwrap_err(),
            "Allocate failed due to cannot allocate unregistered device openshift.io/x, which is unexpected"
        );
    }
}
