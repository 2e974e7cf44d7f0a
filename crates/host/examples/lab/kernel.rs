//! What only a kernel can show: discovery across NUMA nodes, events, module options, soft RDMA devices.

use super::bench::{
    HOME, Runner, device, live_switch, modprobe, netdev, read, refused, said, set_vfs, unload, vf,
};
use super::cases::Pods;
use super::report::{Outcome, equal};
use super::support::{Space, soft_rdma};
use api::{PciAddress, RdmaMode};
use host::linux::LinuxHost;
use host::seam::{Host, Interest, LinkChange, RdmaChange, Woken, words};
use rustix::io::Errno;
use std::time::Duration;

const LATE: Duration = Duration::from_secs(20);

pub fn run(host: &LinuxHost, pods: &dyn Pods, pf: PciAddress, other: PciAddress, case: Runner<'_>) {
    case("each card is on its own numa node with its vfs", &mut || numa(host, pf, other));
    case("a disk controller with vfs is no network card", &mut || disks(host));
    case("vfs announce themselves while we wait", &mut || announcements(host, pf));
    case("a vf takes its admin mac at the next probe", &mut || admin_mac(host, pf));
    case("the option of ib_core sets the mode, even with a pod there", &mut || {
        option_of_core(host, pods)
    });
    case("the kernel command line beats modprobe.d", &mut || command_line(host));
    case("a soft rdma device is found by its interface and cannot be moved", &mut || {
        soft_device(host, pf)
    });
}

pub fn look_at_rdma(host: &LinuxHost) -> Outcome {
    refused("mode", host.rdma_mode(), Errno::PROTONOSUPPORT)?;
    refused("devices", host.rdma_devices(&HOME), Errno::PROTONOSUPPORT)?;
    refused("ib_core", host.list("/sys/module/ib_core"), Errno::NOENT)?;
    Ok("mode and devices were asked for, and ib_core is still not loaded".to_owned())
}

fn numa(host: &LinuxHost, pf: PciAddress, other: PciAddress) -> Outcome {
    for (card, node) in [(pf, "0"), (other, "1")] {
        set_vfs(host, card, "2")?;
        equal("node of the card", read(host, &card.file("numa_node"))?.as_str(), node)?;
        equal("node of a vf", read(host, &vf(host, card, 1)?.file("numa_node"))?.as_str(), node)?;
        set_vfs(host, card, "0")?;
    }
    Ok(format!("{pf} with its VFs on node 0, {other} with its VFs on node 1"))
}

/// QEMU's NVMe controller has the SR-IOV capability; the class tells that it is no network function.
fn disks(host: &LinuxHost) -> Outcome {
    let mut classes = Vec::new();
    for name in said("list", host.list("/sys/bus/pci/devices"))? {
        let device: PciAddress = name.parse().map_err(|error| format!("{error}"))?;
        if host.read(&device.file("sriov_totalvfs")).is_ok() {
            classes.push(read(host, &device.file("class"))?[..4].to_owned());
        }
    }
    classes.sort();
    equal(
        "classes of what has VFs",
        classes,
        ["0x01", "0x02", "0x02"].map(str::to_owned).to_vec(),
    )?;
    Ok("three functions have the capability, two of them are of the network's class".to_owned())
}

fn announcements(host: &LinuxHost, pf: PciAddress) -> Outcome {
    for interest in [Interest::Uevent, Interest::Link] {
        let interests = [interest];
        // The first wait says: look; then all that is still on its way is taken.
        while host.wait(&interests, Duration::from_millis(300)) == Woken::ByEvent {}
        set_vfs(host, pf, "1")?;
        equal("woken", host.wait(&interests, LATE), Woken::ByEvent)?;
        set_vfs(host, pf, "0")?;
    }
    Ok("a uevent and a link message each ended a wait".to_owned())
}

fn admin_mac(host: &LinuxHost, pf: PciAddress) -> Outcome {
    use host::seam::VfSetting;
    // A VF asks its card for its address, and a card that is down does not answer.
    let card = netdev(host, pf)?.index;
    said("up", host.change_link(&HOME, &LinkChange::Up { link: card }))?;
    set_vfs(host, pf, "1")?;
    let mac = [2, 0x11, 0x22, 0x33, 0x44, 0x66];
    let setting = VfSetting::Mac(mac);
    let change = LinkChange::Vf { link: card, vf: 0, setting };
    said("mac", host.change_link(&HOME, &change))?;
    let address = vf(host, pf, 0)?;
    for file in ["unbind", "bind"] {
        let path = format!("/sys/bus/pci/drivers/igbvf/{file}");
        said(file, host.write(&path, &address.to_string()))?;
    }
    equal("mac", netdev(host, address)?.address, mac.to_vec())?;
    set_vfs(host, pf, "0")?;
    Ok(format!("{address} has the address that its card was told"))
}

const OPTIONS: &str = "/etc/modprobe.d/sriov_network_operator_modules_config.conf";

fn option_of_core(host: &LinuxHost, pods: &dyn Pods) -> Outcome {
    unload(host)?;
    pods.start();
    said("options", host.replace(OPTIONS, b"options ib_core netns_mode=0\n", 0o644))?;
    modprobe(host, &["ib_core"])?;
    let mode = said("mode", host.rdma_mode())?;
    pods.end();
    said("options", host.remove(OPTIONS))?;
    unload(host)?;
    equal("mode", mode, RdmaMode::Exclusive)?;
    Ok("netns_mode=0 in modprobe.d: exclusive".to_owned())
}

/// Both levers at odds. kmod reads `/proc/cmdline`, so another file in its place is as good as another boot.
fn command_line(host: &LinuxHost) -> Outcome {
    let line = format!("{} ib_core.netns_mode=0\n", read(host, "/proc/cmdline")?);
    said("command line", host.replace("/tmp/cmdline", line.as_bytes(), 0o644))?;
    said("options", host.replace(OPTIONS, b"options ib_core netns_mode=1\n", 0o644))?;
    let mount = |arguments: &[&str]| {
        std::process::Command::new("/usr/bin/busybox").args(arguments).status()
    };
    let bound = mount(&["mount", "-o", "bind", "/tmp/cmdline", "/proc/cmdline"]);
    equal("mount", bound.map(|status| status.success()).unwrap_or(false), true)?;
    let loaded = modprobe(host, &["ib_core"]);
    let mode = host.rdma_mode();
    let freed = mount(&["umount", "/proc/cmdline"]);
    equal("umount", freed.map(|status| status.success()).unwrap_or(false), true)?;
    said("options", host.remove(OPTIONS))?;
    loaded?;
    let mode = said("mode", mode)?;
    unload(host)?;
    equal("mode", mode, RdmaMode::Exclusive)?;
    Ok("modprobe.d said shared, the command line exclusive: exclusive".to_owned())
}

/// The distribution's own driver: its device has no way to let go of its users, so ib_core refuses to move it.
fn soft_device(host: &LinuxHost, pf: PciAddress) -> Outcome {
    modprobe(host, &["rdma_rxe"])?;
    set_vfs(host, pf, "1")?;
    let netdev = netdev(host, vf(host, pf, 0)?)?;
    said("up", host.change_link(&HOME, &LinkChange::Up { link: netdev.index }))?;
    soft_rdma("mlx5_7", "rxe", &netdev.name);
    let found = device(host, &HOME, "mlx5_7")?.ok_or("the device is not listed")?;
    let ports = said("ports", host.rdma_ports(&HOME, found.index))?;
    equal("ports", ports.len(), 1)?;
    equal("netdev", ports[0].netdev_name.clone(), Some(netdev.name.clone()))?;
    equal("netdev's index", ports[0].netdev, Some(netdev.index))?;
    equal("ports of nothing", said("ports", host.rdma_ports(&HOME, 9999))?.len(), 0)?;
    equal("has a guid", found.node_guid != 0, true)?;
    let rename = |name: &str| RdmaChange::Rename { device: found.index, name: name.to_owned() };
    said("rename", host.change_rdma(&HOME, &rename("rdma0")))?;
    equal("renamed", device(host, &HOME, "rdma0")?.map(|device| device.index), Some(found.index))?;
    let space = Space::new().map_err(words)?;
    let moving = RdmaChange::Move { device: found.index, to: space.namespace() };
    refused("move in shared mode", host.change_rdma(&HOME, &moving), Errno::OPNOTSUPP)?;
    equal(
        "seen in a pod in shared mode",
        device(host, &space.namespace(), "rdma0")?.is_some(),
        true,
    )?;
    drop(space);
    said("exclusive", live_switch(host, RdmaMode::Exclusive))?;
    let space = Space::new().map_err(words)?;
    let moving = RdmaChange::Move { device: found.index, to: space.namespace() };
    refused("move in exclusive mode", host.change_rdma(&HOME, &moving), Errno::OPNOTSUPP)?;
    equal("seen in a pod in exclusive mode", device(host, &space.namespace(), "rdma0")?, None)?;
    drop(space);
    set_vfs(host, pf, "0")?;
    equal("gone with its interface", device(host, &HOME, "rdma0")?, None)?;
    unload(host)?;
    Ok("found by its VF's interface, renamed, and refused to move in either mode".to_owned())
}
