//! Hosts as they are: the files by which operating systems differ, written out from their published layouts, and what
//! ironrail makes of them. Each file below `hosts/` is one system; the real `host::linux` looks at it from outside.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and trees are files"
)]

use api::inventory::{Inventory, RdmaSubsystem};
use api::nodestate::{NodeStateSpec, System};
use api::{PciAddress, RdmaMode, Timestamp};
use expect_test::{Expect, expect};
use host::linux::LinuxHost;
use host::mounts::{self, Keeps};
use host::seam::{
    Address, AddressChange, DevlinkChange, DevlinkDevice, Errno, Interest, Link, LinkChange,
    LinkQuery, Lock, Metadata, Output, Program, RdmaChange, RdmaCount, RdmaDevice, RdmaPort,
    RdmaUser, Route, RouteChange, Woken,
};
use host::unfinished::Unfinished;
use host::{Host, Namespace, Refusal, kernel_argument, rdma_mode};
use node::boot_units::{self, By};
use node::{install, kubelet, observe, sandboxes};
use planner::action::Action;
use planner::{Blocker, Desired, DrainRequest, Permission, Turn};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tempfile::TempDir;

/// A tree on disk, read-only where its own table of mounts says so, and on which our program runs.
struct Mounted(LinuxHost);

impl Mounted {
    /// As the kernel refuses it (mnt_want_write, fs/namespace.c), by the directory that a path leads to.
    fn writable(&self, path: &str) -> Result<(), Refusal> {
        let mut directory = path.to_owned();
        while let Some((above, last)) = directory.clone().rsplit_once('/') {
            directory = above.to_owned();
            // Of a link to another directory the tree has the target as it stands in the system.
            if let Ok(target) = self.0.link_target(&format!("{above}/{last}")) {
                directory = format!("{above}/{target}");
                break;
            }
        }
        let leads_to = if directory.is_empty() { path } else { &plain(&directory) };
        match mounts::keeps(&self.0, leads_to) {
            Keeps::ReadOnly => Err(Refusal::new(format!("write {path}"), Errno::ROFS)),
            Keeps::Yes | Keeps::UntilReboot => Ok(()),
        }
    }
}

/// `/usr/../var/usrlocal` is `/var/usrlocal`.
fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        match part {
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

macro_rules! forward {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {
        impl Host for Mounted {
            fn write(&self, path: &str, content: &str) -> Result<(), Refusal> {
                self.writable(path).and_then(|()| self.0.write(path, content))
            }

            fn replace(&self, path: &str, content: &[u8], mode: u32) -> Result<(), Refusal> {
                self.writable(path).and_then(|()| self.0.replace(path, content, mode))
            }

            fn append(&self, path: &str, content: &[u8]) -> Result<(), Refusal> {
                self.writable(path).and_then(|()| self.0.append(path, content))
            }

            fn remove(&self, path: &str) -> Result<(), Refusal> {
                self.writable(path).and_then(|()| self.0.remove(path))
            }

            fn run(&self, program: &Program, words: &[&str], input: &[u8]) -> Result<Output, Refusal> {
                match program {
                    Program::Own { .. } => Ok(Output::default()),
                    other => self.0.run(other, words, input),
                }
            }

            $(fn $name(&self, $($argument: $kind),*) -> $answer { self.0.$name($($argument),*) })*
        }
    };
}

forward! {
    read(path: &str) -> Result<Vec<u8>, Refusal>;
    list(path: &str) -> Result<Vec<String>, Refusal>;
    link_target(path: &str) -> Result<String, Refusal>;
    metadata(path: &str) -> Result<Metadata, Refusal>;
    lock(path: &str, timeout: Duration) -> Result<Lock, Refusal>;
    unfinished() -> Vec<Unfinished>;
    links(space: &Namespace, query: &LinkQuery) -> Result<Vec<Link>, Refusal>;
    change_link(space: &Namespace, change: &LinkChange) -> Result<(), Refusal>;
    addresses(space: &Namespace, link: Option<u32>) -> Result<Vec<Address>, Refusal>;
    change_address(space: &Namespace, change: &AddressChange) -> Result<(), Refusal>;
    routes(space: &Namespace) -> Result<Vec<Route>, Refusal>;
    change_route(space: &Namespace, change: &RouteChange) -> Result<(), Refusal>;
    send_frame(space: &Namespace, link: u32, frame: &[u8]) -> Result<(), Refusal>;
    set_sysctl(space: &Namespace, name: &str, value: &str) -> Result<(), Refusal>;
    devlink(device: &PciAddress) -> Result<DevlinkDevice, Refusal>;
    change_devlink(device: &PciAddress, change: &DevlinkChange) -> Result<(), Refusal>;
    rdma_mode() -> Result<RdmaMode, Refusal>;
    rdma_devices(space: &Namespace) -> Result<Vec<RdmaDevice>, Refusal>;
    rdma_ports(space: &Namespace, device: u32) -> Result<Vec<RdmaPort>, Refusal>;
    rdma_users(space: &Namespace) -> Result<Vec<RdmaUser>, Refusal>;
    rdma_counters(space: &Namespace, device: u32, port: u32) -> Result<Vec<RdmaCount>, Refusal>;
    rdma_resources(space: &Namespace, device: u32) -> Result<Vec<RdmaCount>, Refusal>;
    change_rdma(space: &Namespace, change: &RdmaChange) -> Result<(), Refusal>;
    now() -> Timestamp;
    wait(interests: &[Interest], timeout: Duration) -> Woken;
}

struct Tree {
    directory: TempDir,
    host: Mounted,
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
            ("link", words) => {
                let (path, target) = words.split_once(' ').unwrap();
                fs::create_dir_all(inside(path).parent().unwrap()).unwrap();
                fs::create_dir_all(inside(path).parent().unwrap().join(target)).unwrap();
                std::os::unix::fs::symlink(target, inside(path)).unwrap();
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
    let host = Mounted(LinuxHost::new(directory.path().to_str().unwrap()).unwrap());
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

/// Up to `systemctl`, which no tree has.
fn boot_phases(tree: &Tree) -> String {
    let refused = boot_units::install(&tree.host, None, b"program", By::Hand).unwrap_err();
    let unit = tree.host.read("/etc/systemd/system/ironrail-boot-pre.service");
    let starts = unit.map(|text| String::from_utf8(text).unwrap()).unwrap_or_default();
    match starts.lines().find_map(|line| line.strip_prefix("ExecStart=")) {
        Some(program) => format!("boot phases: {program}\n"),
        None => format!("boot phases: {refused}\n"),
    }
}

/// Where an operator that was told nothing takes the kubelet's files to be, and what the device plugin makes of it.
fn kubelets_files(tree: &Tree) -> String {
    let mounted = "/var/lib/kubelet";
    let root = kubelet::root_dir(&tree.host).unwrap_or_default();
    for directory in [mounted, &root] {
        tree.host.0.replace(&format!("{directory}/config.yaml"), b"", 0o644).unwrap();
    }
    let found = tree.host.metadata(mounted).unwrap();
    let why = kubelet::elsewhere(&tree.host, (found.device, found.inode));
    format!("kubelet's files: {}\n", why.unwrap_or(root))
}

fn check(name: &str, expected: Expect) {
    let tree = tree(name);
    let endpoint = sandboxes::configured(&tree.host).unwrap().unwrap_or_default();
    let runtime = format!("container runtime: {endpoint}\n");
    let kubelet = kubelets_files(&tree);
    let told = [levers(&tree.host), runtime, kubelet, boot_phases(&tree), plugins(&tree)];
    expected.assert_eq(&told.concat());
}

#[test]
fn a_directory_of_plugins_that_is_read_only_is_refused_with_the_value_to_set() {
    let flatcar = tree("flatcar-3975");
    let refused = install::install(&flatcar.host, "/usr/libexec/cni", b"program").unwrap_err();
    expect!["cannot install the CNI plugin sriov: write /usr/libexec/cni/sriov: read-only file system; set SRIOV_CNI_BIN_PATH of the operator's Deployment to the directory in which this host's container runtime looks for plugins and that can be written"].assert_eq(&refused);
}

#[test]
fn ubuntu() {
    check(
        "ubuntu-24.04",
        expect![[r#"
            levers: modprobe.d, kernel argument by update-grub
            waits: 
            container runtime: unix:///var/run/containerd/containerd.sock
            kubelet's files: /var/lib/kubelet
            boot phases: /usr/local/bin/ironrail-node boot pre
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
            kubelet's files: the kubelet of this host has its files in /data/kubelet (--root-dir), and we were given another directory; set KUBELET_ROOT_DIR of the operator's Deployment to /data/kubelet
            boot phases: /usr/local/bin/ironrail-node boot pre
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
            kubelet's files: /var/lib/kubelet
            boot phases: /usr/local/bin/ironrail-node boot pre
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
            kubelet's files: /var/lib/kubelet
            boot phases: /opt/bin/ironrail-node boot pre
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
            kubelet's files: /var/lib/kubelet
            boot phases: /opt/bin/ironrail-node boot pre
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
            kubelet's files: /var/lib/kubelet
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
            kubelet's files: /var/lib/kubelet
            boot phases: cannot install the boot phases: /etc/systemd/system of this host is in memory and gone at its next boot; without them the daemon sets mode and VFs after the container runtime has started
            plugins in /opt/cni/bin: ib-sriov 755, rdma 755, sriov 755
        "#]],
    );
}
