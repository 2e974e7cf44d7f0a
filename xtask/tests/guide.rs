//! The tutorial keeps the four manifests of the guide that users know, byte for byte: the demo applies them as they stand.

const TUTORIAL: &str = include_str!("../../docs/tutorial/rdma-configuration.md");

/// The fenced blocks of one language, in order.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let opened = text.split(&fence).skip(1);
    opened.map(|rest| rest.split_once("```").expect("every block is closed").0).collect()
}

/// FNV-1a, 64 bits: enough to notice a changed byte.
fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[test]
fn the_four_manifests_are_those_that_users_have_in_their_files() {
    let found: Vec<String> = blocks(TUTORIAL, "yaml")
        .into_iter()
        .map(|block| format!("{} bytes, {:016x}", block.len(), digest(block)))
        .collect();
    expect_test::expect![[r#"
        377 bytes, fd42cbd25fb08d8a
        481 bytes, e5593e6ab4ac4307
        364 bytes, 7fbb1f1f784fd0f5
        503 bytes, 8bb4838f36603d5f"#]]
    .assert_eq(&found.join("\n"));
}

#[test]
fn every_command_of_the_guide_is_shown() {
    let commands: Vec<&str> = blocks(TUTORIAL, "bash")
        .into_iter()
        .flat_map(str::lines)
        .filter(|line| line.starts_with("kubectl "))
        .collect();
    let guide = [
        "kubectl exec -it <config-daemon-pod> -n sriov-network-operator -- rdma link show",
        "kubectl exec -it <config-daemon-pod> -n sriov-network-operator -- cat /sys/class/infiniband/*/device/sriov_numvfs",
        "kubectl exec -it <pod-name> -- rdma link show",
        "kubectl exec -it <pod-name> -- cat /sys/class/infiniband/mlx5_0/ports/1/counters/*",
        "kubectl describe node <node-name> | grep openshift.io/rdma_exclusive_device",
        "kubectl describe sriovnetworkpoolconfig rdma-workers -n sriov-network-operator",
        "kubectl get nodes --show-labels | grep rdma",
        "kubectl logs deployment/sriov-network-operator -n sriov-network-operator",
        "kubectl describe node <node-name> | grep rdma_exclusive_device",
        "kubectl get pods -n sriov-network-operator | grep device-plugin",
        "kubectl get networkattachmentdefinition rdma-network -o yaml",
    ];
    let missing: Vec<_> = guide.into_iter().filter(|line| !commands.contains(line)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}
