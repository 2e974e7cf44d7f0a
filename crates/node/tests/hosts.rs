//! Hosts as they are: the files by which operating systems differ, written out from their published layouts, and what
//! ironrail makes of them. Each file below `hosts/` is one system; the real `host::linux` looks at it from outside.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and trees are files"
)]

use api::inventory::{Inventory, RdmaSubsystem};
use api::nodestate::{NodeStateSpec, System};
use api::{RdmaMode, Timestamp};
use expect_test::{Expect, expect};
use host::linux::LinuxHost;
use host::mounts::{self, Keeps};
use host::{Host, kernel_argument, rdma_mode};
use node::{boot_units, install, observe, sandboxes};
use planner::action::Action;
use planner::{Blocker, Desired, DrainRequest, Permission, Turn};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

struct Tree {
    directory: TempDir,
    host: LinuxHost,
    /// Where this system's container runtime looks for plugins.
    cni: String,
}

/// Lays a system out on disk. A line without a known first word belongs to the file above it.
fn tree(name: &str) -> Tree {
    let directory = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(format!("{}/tests/hosts/{name}.txt", env!("CARGO_MANIFEST_DIR")))
        .unwrap();
    let inside = |path: &str| directory.path().join(path.trim_start_matches('/'));
    let write = |path: &str, content: &str| {
        fs::create_dir_all(inside(path).parent().unwrap()).unwrap();
        fs::write(inside(path), content).unwrap();
    };
    let (mut cni, mut open) = (String::new(), None);
    for line in text.lines() {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("cni", path) => cni = path.to_owned(),
            // Where the layout is published; for whoever doubts it.
            ("source", _) => {}
            ("file", path) => {
                write(path, "");
                open = Some(path);
            }
            ("program", path) => {
                write(path, "");
                fs::set_permissions(inside(path), fs::Permissions::from_mode(0o755)).unwrap();
            }
            ("directory", path) => fs::create_dir_all(inside(path)).unwrap(),
            ("process", process) => {
                let words: Vec<&str> = process.split(' ').collect();
                write(&format!("/proc/{}/comm", words[0]), &format!("{}\n", words[1]));
                write(&format!("/proc/{}/cmdline", words[0]), &words[2..].join("\0"));
            }
            _ => {
                let path = inside(open.unwrap());
                let before = fs::read_to_string(&path).unwrap();
                fs::write(&path, format!("{before}{line}\n")).unwrap();
            }
        }
    }
    let host = LinuxHost::new(directory.path().to_str().unwrap()).unwrap();
    Tree { directory, host, cni }
}

/// The mode of the guide asked for on this system, once its drain is done: which levers it has, or what it waits for.
fn levers(host: &dyn Host) -> String {
    let inventory = Inventory {
        boot_id: "boot".to_owned(),
        rdma: RdmaSubsystem {
            mode: Some(RdmaMode::Shared),
            other_namespaces: 3,
            kernel_argument_tool: kernel_argument::tool(host).map(|tool| tool.name().to_owned()),
            modprobe_writable: rdma_mode::option_writable(host),
            operating_system: observe::operating_system(host),
            ..RdmaSubsystem::default()
        },
        ..Inventory::default()
    };
    let system = System { rdma_mode: Some(RdmaMode::Exclusive) };
    let desired = Desired::parse(&NodeStateSpec { system, ..NodeStateSpec::default() });
    let permission =
        Permission { turn: Turn::Drained(DrainRequest::Reboot), ..Permission::default() };
    let plan = planner::plan(&desired, &inventory, &permission, Timestamp::UNIX_EPOCH);
    let pulled = plan.steps.iter().filter_map(|step| match &step.action {
        Action::Reboot { causes, .. } => Some(causes.iter().flat_map(|cause| cause.levers.clone())),
        _ => None,
    });
    let pulled: Vec<String> = pulled.flatten().collect();
    let waits: Vec<String> = plan.blockers.iter().map(Blocker::to_string).collect();
    format!("levers: {}\nwaits: {}\n", pulled.join(", "), waits.join("; "))
}

fn plugins(tree: &Tree) -> String {
    install::install(&tree.host, &tree.cni, b"program").unwrap();
    let there = tree.directory.path().join(tree.cni.trim_start_matches('/'));
    let mode = |name: &str| fs::metadata(there.join(name)).unwrap().permissions().mode() & 0o777;
    let found = tree.host.list(&tree.cni).unwrap();
    let found: Vec<String> = found.iter().map(|name| format!("{name} {:o}", mode(name))).collect();
    format!("plugins in {}: {}\n", tree.cni, found.join(", "))
}

/// Tried where it is refused before anything is written; where it is not, systemctl would be run.
fn boot_phases(tree: &Tree) -> String {
    let lasting = mounts::keeps(&tree.host, "/etc/systemd/system") != Keeps::UntilReboot;
    if tree.host.metadata(api::files::RUN_SYSTEMD).is_ok() && lasting {
        return "boot phases: by systemd\n".to_owned();
    }
    let refused = boot_units::install(&tree.host, "/usr/local/bin", b"program").unwrap_err();
    assert!(!Path::new(&tree.directory.path().join("usr/local/bin")).exists());
    format!("boot phases: {refused}\n")
}

fn check(name: &str, expected: Expect) {
    let tree = tree(name);
    let endpoint = sandboxes::configured(&tree.host).unwrap_or_default();
    let runtime = format!("container runtime: {endpoint}\n");
    expected.assert_eq(&(levers(&tree.host) + &runtime + &boot_phases(&tree) + &plugins(&tree)));
}

#[test]
fn ubuntu() {
    check(
        "ubuntu-24.04",
        expect![[r#"
        levers: modprobe.d, kernel argument by update-grub
        waits: 
        container runtime: unix:///var/run/containerd/containerd.sock
        boot phases: by systemd
        plugins in /opt/cni/bin: ib-sriov 755, rdma 755, sriov 755
    "#]],
    );
}

#[test]
fn red_hat_enterprise_linux() {
    check(
        "rhel-9",
        expect![[r#"
        levers: modprobe.d, kernel argument by grubby
        waits: 
        container runtime: unix:///var/run/crio/crio.sock
        boot phases: by systemd
        plugins in /opt/cni/bin: ib-sriov 755, rdma 755, sriov 755
    "#]],
    );
}

#[test]
fn red_hat_coreos_has_no_use_for_the_grubby_that_it_brings() {
    check(
        "rhcos-4.16",
        expect![[r#"
        levers: modprobe.d, kernel argument by rpm-ostree
        waits: 
        container runtime: /var/run/crio/crio.sock
        boot phases: by systemd
        plugins in /var/lib/cni/bin: ib-sriov 755, rdma 755, sriov 755
    "#]],
    );
}

#[test]
fn flatcar_has_modprobe_options_and_no_tool_for_its_command_line() {
    check(
        "flatcar-3975",
        expect![[r#"
        levers: modprobe.d
        waits: 
        container runtime: unix:///run/containerd/containerd.sock
        boot phases: by systemd
        plugins in /opt/cni/bin: ib-sriov 755, rdma 755, sriov 755
    "#]],
    );
}

#[test]
fn sle_micro_has_a_read_only_root_and_a_writable_etc() {
    check(
        "sle-micro-6",
        expect![[r#"
            levers: modprobe.d, kernel argument by transactional-update
            waits: 
            container runtime: unix:///run/k3s/containerd/containerd.sock
            boot phases: by systemd
            plugins in /opt/cni/bin: ib-sriov 755, rdma 755, sriov 755
        "#]],
    );
}

#[test]
fn talos_has_no_lever_and_says_what_to_put_into_its_own_configuration() {
    check(
        "talos-1.8",
        expect![[r#"
            levers: 
            waits: cannot set RDMA mode exclusive: this operating system has no modprobe.d that we may write and no tool for the kernel command line; put `machine: {install: {extraKernelArgs: [ib_core.netns_mode=0]}}` into its machine configuration (where it boots by systemd-boot: `customization: {extraKernelArgs: [ib_core.netns_mode=0]}` into the schematic of its image) and upgrade the node with it
            container runtime: /run/containerd/containerd.sock
            boot phases: cannot install the boot phases: this host has no systemd (/run/systemd/system is not there); without them the daemon sets mode and VFs after the container runtime has started
            plugins in /opt/cni/bin: ib-sriov 755, rdma 755, sriov 755
        "#]],
    );
}

#[test]
fn bottlerocket_has_an_etc_in_memory_and_says_what_to_put_into_its_settings() {
    check(
        "bottlerocket-1.20",
        expect![[r#"
        levers: 
        waits: cannot set RDMA mode exclusive: this operating system has no modprobe.d that we may write and no tool for the kernel command line; put `settings.boot.kernel-parameters."ib_core.netns_mode" = ["0"]` and `settings.boot.reboot-to-reconcile = true` into its user data, or give it the first with apiclient set and reboot the node
        container runtime: unix:///run/containerd/containerd.sock
        boot phases: cannot install the boot phases: /etc/systemd/system of this host is in memory and gone at its next boot; without them the daemon sets mode and VFs after the container runtime has started
        plugins in /opt/cni/bin: ib-sriov 755, rdma 755, sriov 755
    "#]],
    );
}
