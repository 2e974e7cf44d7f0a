//! CDI specs that a boot took away: /var/run is empty then, and the kubelet admits its pods again with the old names.

use crate::bench::{Bench, PF, VF};
use api::RdmaMode;
use expect_test::expect;
use host::seam::RdmaChange;
use host::{Host, Namespace};
use serde_json::{Value, json};

/// The spec of the VF as it is after ADD of a chain, where it was missing before; `offer` is merged into the resource.
fn after(bench: &Bench, driver: &str, offer: Value, by_path: bool, chain: &[&str]) -> String {
    let mut resource = json!({
        "rdma": false, "vhostNet": false, "excludeTopology": false,
        "devices": [{"pci": VF, "state": {"is": "ready"}, "parent": PF, "driver": driver}],
    });
    resource.as_object_mut().unwrap().extend(offer.as_object().unwrap().clone());
    let offer = json!({
        "version": 1, "bootId": bench.host.machine().boot_id.clone(), "sequence": 1,
        "byPath": by_path, "resources": {"openshift.io/nic": resource},
    });
    bench.run(&format!("file /run/ironrail/offer.json {offer}"));
    for plugin in chain {
        let told = bench.run(&format!("ADD {plugin} a net1"));
        assert!(!told.contains("failed"), "{told}");
    }
    let Ok(bytes) = bench.host.read(&host::cdi::path(&VF.parse().unwrap())) else {
        return "none".to_owned();
    };
    let spec: Value = serde_json::from_slice(&bytes).unwrap();
    let nodes = spec["devices"][0]["containerEdits"]["deviceNodes"].as_array().unwrap().iter();
    nodes.map(|node| node["path"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_spec_that_a_boot_took_away_is_made_anew_for_user_space_vhost_net_and_shared_mode() {
    let mut told = String::new();
    let in_user_space = || {
        let bench = Bench::new();
        host::driver_bind::bind(&bench.host, &VF.parse().unwrap(), "vfio-pci").unwrap();
        bench
    };
    let shared = || {
        let bench = Bench::new();
        for pod in ["a", "b"] {
            bench.host.machine().delete_namespace(&crate::bench::path(pod)).unwrap();
        }
        let mode = RdmaChange::Mode(RdmaMode::Shared);
        bench.host.change_rdma(&Namespace::Host, &mode).unwrap();
        bench.run("start a");
        bench
    };
    let plain = || json!({});
    let rdma = || json!({"rdma": true});
    let vhost = || json!({"vhostNet": true});
    let mut say = |what: &str, spec: String| told += &format!("{what}: {spec}\n");
    say("vfio-pci", after(&in_user_space(), "vfio-pci", plain(), false, &["sriov"]));
    say("vfio-pci by path", after(&in_user_space(), "vfio-pci", plain(), true, &["sriov"]));
    say("vfio-pci, ib", after(&in_user_space(), "vfio-pci", plain(), false, &["ib-sriov"]));
    say("vhost-net", after(&Bench::new(), "mlx5_core", vhost(), false, &["sriov"]));
    say("shared", after(&shared(), "mlx5_core", rdma(), false, &["sriov"]));
    say("exclusive", after(&Bench::new(), "mlx5_core", rdma(), false, &["sriov", "rdma"]));
    say("an interface alone", after(&Bench::new(), "mlx5_core", plain(), false, &["sriov"]));
    expect![[r#"
        vfio-pci: /dev/vfio/vfio /dev/vfio/2410
        vfio-pci by path: none
        vfio-pci, ib: /dev/vfio/vfio /dev/vfio/2410
        vhost-net: /dev/vhost-net /dev/net/tun
        shared: /dev/infiniband/rdma_cm /dev/infiniband/umad2 /dev/infiniband/uverbs2
        exclusive: /dev/infiniband/rdma_cm /dev/infiniband/umad2 /dev/infiniband/uverbs2
        an interface alone: none
    "#]]
    .assert_eq(&told);
}
