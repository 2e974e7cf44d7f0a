//! What the kubelet itself remembers of the devices that it gave: its device manager's checkpoint
//! (pkg/kubelet/cm/devicemanager/checkpoint/checkpoint.go). Reads only.
//!
//! PodResources leaves out what plain init containers have; this names it, by the pod's uid. It remembers beyond the pod's
//! end, so that what it says counts only while a process of that pod lives.

use crate::kubelet;
use api::custody::Holder;
use api::{PciAddress, files};
use host::{Host, processes};
use rustix::io::Errno;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Checkpoint {
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    /// null where nothing was ever given.
    pod_device_entries: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "PodUID")]
    uid: String,
    #[serde(rename = "ResourceName")]
    resource: String,
    /// By NUMA node.
    #[serde(rename = "DeviceIDs")]
    devices: BTreeMap<String, Vec<String>>,
}

/// Who has these devices, by the pods' uids. A checkpoint that cannot be read, or is not there, names nobody, and that is
/// logged.
pub fn holders(host: &dyn Host, devices: &BTreeSet<PciAddress>) -> Vec<Holder> {
    if devices.is_empty() {
        return Vec::new();
    }
    let entries = read(host).unwrap_or_else(|why| {
        tracing::warn!(
            "{why}; a device that a plain init container has without a network counts as free after two minutes: give it \
             to a sidecar, or to the pod's own containers"
        );
        Vec::new()
    });
    let mut holders: Vec<Holder> = entries.iter().flat_map(|entry| of(entry, devices)).collect();
    let uids: BTreeSet<String> = holders.iter().map(|holder| holder.uid.clone()).collect();
    let living = living(host, &uids);
    holders.retain(|holder| living.contains(&holder.uid));
    holders
}

/// Where the running kubelet writes it: below its own `--root-dir`, on the host's side.
fn path(host: &dyn Host) -> String {
    match kubelet::root_dir(host) {
        Some(root) => format!("{}/{NAME}", root.trim_end_matches('/')),
        // Inside another program (k3s) it has its default.
        None => files::KUBELET_CHECKPOINT.to_owned(),
    }
}

/// Below the kubelet's root (pkg/kubelet/config/defaults.go; pkg/kubelet/cm/devicemanager/manager.go).
const NAME: &str = "device-plugins/kubelet_internal_checkpoint";

fn read(host: &dyn Host) -> Result<Vec<Entry>, String> {
    let path = path(host);
    let bytes = host.read(&path).map_err(|refusal| match refusal.errno {
        // It is written when devices were given, so that there is one beside a claim of two minutes.
        Errno::NOENT => format!(
            "the kubelet has given devices, and its checkpoint is not at {path} (below the --root-dir of the \
             process called kubelet, else the default)"
        ),
        _ => format!("cannot {refusal}"),
    })?;
    let checkpoint: Checkpoint = serde_json::from_slice(&bytes).map_err(|error| {
        format!("{path} is no checkpoint as kubelets since 1.20 write it: {error}")
    })?;
    Ok(checkpoint.data.pod_device_entries.unwrap_or_default())
}

fn of<'a>(
    entry: &'a Entry,
    devices: &'a BTreeSet<PciAddress>,
) -> impl Iterator<Item = Holder> + 'a {
    let ids = entry.devices.values().flatten().filter(|_| !entry.uid.is_empty());
    let given = ids.filter_map(|id| id.parse::<PciAddress>().ok());
    given.filter(|device| devices.contains(device)).map(|device| Holder {
        device: device.to_string(),
        resource: entry.resource.clone(),
        uid: entry.uid.clone(),
        ..Holder::default()
    })
}

/// Those of which a process lives, its sandbox's if no other: the uid stands in the name of its cgroup, with `_` for `-`
/// where systemd manages cgroups (pkg/kubelet/cm/pod_container_manager_linux.go, GetPodContainerName).
fn living(host: &dyn Host, uids: &BTreeSet<String>) -> BTreeSet<String> {
    if uids.is_empty() {
        return BTreeSet::new();
    }
    let processes = processes::directories(host).into_iter().flatten();
    let cgroups: BTreeSet<String> = processes
        .filter_map(|process| host.read(&format!("{process}/cgroup")).ok())
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .collect();
    let lives = |uid: &&String| {
        let names = [format!("pod{uid}"), format!("pod{}", uid.replace('-', "_"))];
        cgroups.iter().any(|cgroup| names.iter().any(|name| cgroup.contains(name)))
    };
    uids.iter().filter(lives).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Timestamp;
    use expect_test::{Expect, expect};
    use host::linux::LinuxHost;
    use host::sim::{Flavour, Machine, SimHost};

    const LIVING: &str = "2d8b34a1-77c0-4c11-9c5e-0e6f4a7c9d10";
    const GONE: &str = "93f1c2aa-0d5b-4f0e-8a44-d1f3c1b7e522";
    const DEVICE: &str = "0000:03:00.2";

    fn check(content: &str, expected: Expect) {
        let mut machine = Machine::small_worker("worker-0", Flavour::Rhel, Timestamp::UNIX_EPOCH);
        machine.files.insert(files::KUBELET_CHECKPOINT.to_owned(), content.as_bytes().to_vec());
        machine.start_sandbox(LIVING, None).unwrap();
        let host = SimHost::new(machine);
        let devices = BTreeSet::from([DEVICE.parse().unwrap()]);
        let said = match read(&host) {
            Ok(_) => format!("{:?}", holders(&host, &devices)),
            Err(why) => {
                assert!(holders(&host, &devices).is_empty());
                why.replace(files::KUBELET_CHECKPOINT, "it")
            }
        };
        expected.assert_eq(&said);
    }

    fn entry(uid: &str, ids: &str) -> String {
        let entry = format!(
            r#"{{"PodUID":"{uid}","ContainerName":"c","ResourceName":"openshift.io/bare","DeviceIDs":{ids},"AllocResp":""}}"#
        );
        format!(
            r#"{{"Data":{{"PodDeviceEntries":[{entry}],"RegisteredDevices":{{}}}},"Checksum":3166203521}}"#
        )
    }

    #[test]
    fn a_device_is_held_by_the_pod_that_the_kubelet_remembers_while_a_process_of_it_lives() {
        let ids = format!(r#"{{"-1":["0000:03:00.3"],"0":["{DEVICE}"]}}"#);
        let held = expect![[
            r#"[Holder { device: "0000:03:00.2", resource: "openshift.io/bare", namespace: "", pod: "", uid: "2d8b34a1-77c0-4c11-9c5e-0e6f4a7c9d10" }]"#
        ]];
        check(&entry(LIVING, &ids), held);
        check(&entry(GONE, &ids), expect!["[]"]);
        check(&entry("", &ids), expect!["[]"]);
        check(&entry(LIVING, r#"{"0":["0000:03:00.3","GPU-8f2c1d90"]}"#), expect!["[]"]);
        check(r#"{"Data":{"PodDeviceEntries":null},"Checksum":1}"#, expect!["[]"]);
    }

    #[test]
    fn a_checkpoint_that_cannot_be_read_says_so_and_names_nobody() {
        check(
            &entry(LIVING, r#"["0000:03:00.2"]"#),
            expect![
                "it is no checkpoint as kubelets since 1.20 write it: invalid type: sequence, expected a map at line 1 column 145"
            ],
        );
        check(
            "",
            expect![
                "it is no checkpoint as kubelets since 1.20 write it: EOF while parsing a value at line 1 column 0"
            ],
        );
        check(
            "{}",
            expect![
                "it is no checkpoint as kubelets since 1.20 write it: missing field `Data` at line 1 column 2"
            ],
        );
    }

    /// A host whose kubelet was started with these arguments, and which has this checkpoint at this path.
    fn with_root(arguments: &str, checkpoint: &str, expected: Expect) {
        let directory = tempfile::tempdir().unwrap();
        let host = LinuxHost::new(directory.path().to_str().unwrap()).unwrap();
        let ids = format!(r#"{{"0":["{DEVICE}"]}}"#);
        let tree = [
            ("/proc/77/comm", "kubelet\n".to_owned()),
            ("/proc/77/cmdline", arguments.to_owned()),
            ("/proc/78/cgroup", format!("0::/kubepods/burstable/pod{LIVING}/c1\n")),
            (checkpoint, entry(LIVING, &ids)),
        ];
        for (path, content) in tree {
            host.replace(path, content.as_bytes(), 0o644).unwrap();
        }
        let devices = BTreeSet::from([DEVICE.parse().unwrap()]);
        let uids = holders(&host, &devices).into_iter().map(|holder| holder.uid);
        let why = read(&host).err().unwrap_or_default();
        expected.assert_eq(&format!("{:?} {why}", uids.collect::<Vec<_>>()));
    }

    #[test]
    fn the_checkpoint_lies_below_the_root_of_the_kubelet_that_runs() {
        let elsewhere = "/data/kubelet/device-plugins/kubelet_internal_checkpoint";
        let held = || expect![[r#"["2d8b34a1-77c0-4c11-9c5e-0e6f4a7c9d10"] "#]];
        with_root("kubelet\0--root-dir=/data/kubelet\0", elsewhere, held());
        with_root("kubelet\0--root-dir\0/data/kubelet/\0", elsewhere, held());
        with_root("kubelet\0--v=2\0", files::KUBELET_CHECKPOINT, held());
    }

    #[test]
    fn a_checkpoint_that_is_not_there_is_said_with_its_path() {
        with_root(
            "kubelet\0--root-dir=/data/kubelet\0",
            files::KUBELET_CHECKPOINT,
            expect![
                "[] the kubelet has given devices, and its checkpoint is not at /data/kubelet/device-plugins/kubelet_internal_checkpoint (below the --root-dir of the process called kubelet, else the default)"
            ],
        );
    }
}
