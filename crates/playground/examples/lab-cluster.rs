//! The lab's cluster for the machine with systemd: an API server, our operator and a kubelet's sockets, in which a person has
//! asked for mode, VFs and a `configurationMode`, the only argument.
//!
//! The daemon is started by who started this. The node's state is written down, again and again, for who looks at it.

#![allow(clippy::unwrap_used)] // What fails here is seen in the case that waits for it.

#[path = "lab/machine.rs"]
mod machine;
#[path = "../../host/examples/lab/pod.rs"]
mod pod;

use api::names;
use machine::{Machine, NODE};
use playground::demo::Manifests;
use serde_json::json;
use std::time::Duration;

const STATE: &str = "/run/lab-state.json";
/// As many as the cases about boots know.
const VFS: u32 = 3;

fn main() {
    let mode = std::env::args().nth(1).unwrap();
    let machine = Machine::without_programs();
    let manifests = Manifests::read(None).unwrap();
    machine
        .until("the configuration is there", || {
            machine.configure(json!({ "configurationMode": mode }))
        })
        .unwrap();
    machine.apply(&manifests.pool).unwrap();
    let mut policy = manifests.policy;
    policy["spec"]["nicSelector"] = json!({ "vendor": "8086", "deviceID": "10c9" });
    policy["spec"]["numVfs"] = VFS.into();
    // This kernel has no driver that makes RDMA devices of these VFs.
    policy["spec"]["isRdma"] = false.into();
    machine.apply(&policy).unwrap();
    loop {
        let state = machine.get(names::API_VERSION, names::NODE_STATE, names::NAMESPACE, NODE);
        let partial = format!("{STATE}.partial");
        std::fs::write(&partial, state.to_string()).unwrap();
        std::fs::rename(&partial, STATE).unwrap();
        std::thread::sleep(Duration::from_millis(500));
    }
}
