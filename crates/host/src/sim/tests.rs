//! What the simulated machine shows and refuses, as a user of its shell would see it.

use super::{Fault, Flavour, Machine, SimHost};
use crate::seam::{
    Host, LinkChange, LinkQuery, Namespace, Program, RdmaChange, VfLinkState, VfSetting, Vlan,
    words,
};
use api::{RdmaMode, Timestamp};
use expect_test::{Expect, expect};
use rustix::io::Errno;
use std::time::Duration;

const PF: &str = "/sys/bus/pci/devices/0000:03:00.0";

fn worker() -> Machine {
    Machine::rdma_worker("worker-0", Flavour::Rhel, Timestamp::UNIX_EPOCH)
}

fn pod_path() -> Namespace {
    Namespace::At("/var/run/netns/a".to_owned())
}

/// Runs lines like a shell: `cat`, `ls`, `readlink`, `echo … >`, `rdma`, `ip`, and what the test writes below.
fn check(host: &SimHost, script: &str, expected: Expect) {
    let mut out = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let answer = match run(host, line) {
            Ok(answer) => answer,
            Err(error) => error,
        };
        out.push_str(&format!("$ {line}\n"));
        for answer in answer.lines().filter(|answer| !answer.is_empty()) {
            out.push_str(&format!("{answer}\n"));
        }
    }
    expected.assert_eq(&out);
}

fn run(host: &SimHost, line: &str) -> Result<String, String> {
    let words_of: Vec<&str> = line.split_whitespace().collect();
    let text = |refusal: crate::Refusal| refusal.to_string();
    match words_of.as_slice() {
        ["cat", path] => {
            let content = host.read(&at(path)).map_err(text)?;
            Ok(String::from_utf8_lossy(&content).into_owned())
        }
        ["ls", path] => Ok(host.list(&at(path)).map_err(text)?.join(" ")),
        ["readlink", path] => host.link_target(&at(path)).map_err(text),
        ["stat", path] => {
            let found = host.metadata(&at(path)).map_err(text)?;
            Ok(format!("{:?} {}:{}", found.kind, found.major, found.minor))
        }
        ["echo", value, ">", path] => {
            host.write(&at(path), value).map(|()| String::new()).map_err(text)
        }
        ["boot"] => {
            host.machine().boot();
            Ok(String::new())
        }
        ["rdma", "mode", mode] => change_rdma(host, RdmaChange::Mode(mode.parse().unwrap())),
        ["rdma", "mode"] => host.rdma_mode().map(|mode| mode.to_string()).map_err(text),
        ["rdma", "list", space] => {
            let devices = host.rdma_devices(&space_of(space)).map_err(text)?;
            Ok(devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>().join(" "))
        }
        ["netns", "add", name] => {
            host.machine().create_namespace(&format!("/var/run/netns/{name}")).map_err(words)?;
            Ok(String::new())
        }
        ["netns", "del", name] => {
            host.machine().delete_namespace(&format!("/var/run/netns/{name}")).map_err(words)?;
            Ok(String::new())
        }
        _ => Err(format!("no such command: {line}")),
    }
}

fn at(path: &str) -> String {
    path.replace("$PF", PF)
}

fn space_of(name: &str) -> Namespace {
    if name == "host" { Namespace::Host } else { Namespace::At(format!("/var/run/netns/{name}")) }
}

fn change_rdma(host: &SimHost, change: RdmaChange) -> Result<String, String> {
    host.change_rdma(&Namespace::Host, &change)
        .map(|()| String::new())
        .map_err(|error| error.to_string())
}

fn link(host: &SimHost, space: &Namespace, name: &str) -> u32 {
    let query = LinkQuery { name: Some(name.to_owned()), ..LinkQuery::default() };
    host.links(space, &query).unwrap()[0].index
}

fn rdma(host: &SimHost, space: &Namespace, name: &str) -> u32 {
    host.rdma_devices(space).unwrap().iter().find(|device| device.name == name).unwrap().index
}

#[test]
fn sysfs_shows_the_card_of_the_guide() {
    let host = SimHost::new(worker());
    check(
        &host,
        "ls /sys/class/net
         ls /sys/class/infiniband
         readlink $PF
         cat $PF/vendor
         cat $PF/device
         cat $PF/class
         readlink $PF/driver
         ls $PF/net
         cat /sys/class/net/enp3s0f0/device/sriov_totalvfs
         cat /sys/class/infiniband/mlx5_0/device/sriov_numvfs
         cat $PF/sriov_vf_device
         cat $PF/numa_node
         cat $PF/driver_override
         readlink $PF/iommu_group
         ls /dev/infiniband
         stat /dev/infiniband/uverbs1
         cat /sys/class/infiniband_verbs/uverbs1/ibdev
         cat /sys/module/ib_core/parameters/netns_mode
         cat /proc/cmdline
         cat /sys/class/net/enp3s0f0/phys_switch_id
         cat /sys/bus/pci/drivers_probe
         cat /sys/class/net/nothing/mtu",
        expect![[r#"
            $ ls /sys/class/net
            enp175s0 enp1s0 enp3s0f0 enp3s0f1 enp59s0 enp7s0 enp94s0 lo
            $ ls /sys/class/infiniband
            irdma0 mlx5_0 mlx5_1 mlx5_2 mlx5_3
            $ readlink $PF
            ../../../devices/pci0000:00/0000:00:03.0/0000:03:00.0
            $ cat $PF/vendor
            0x15b3
            $ cat $PF/device
            0x1017
            $ cat $PF/class
            0x020000
            $ readlink $PF/driver
            ../../../../bus/pci/drivers/mlx5_core
            $ ls $PF/net
            enp3s0f0
            $ cat /sys/class/net/enp3s0f0/device/sriov_totalvfs
            8
            $ cat /sys/class/infiniband/mlx5_0/device/sriov_numvfs
            0
            $ cat $PF/sriov_vf_device
            1018
            $ cat $PF/numa_node
            0
            $ cat $PF/driver_override
            (null)
            $ readlink $PF/iommu_group
            ../../../../kernel/iommu_groups/24
            $ ls /dev/infiniband
            rdma_cm umad0 umad1 umad2 umad3 umad4 uverbs0 uverbs1 uverbs2 uverbs3 uverbs4
            $ stat /dev/infiniband/uverbs1
            CharacterDevice 231:193
            $ cat /sys/class/infiniband_verbs/uverbs1/ibdev
            mlx5_1
            $ cat /sys/module/ib_core/parameters/netns_mode
            Y
            $ cat /proc/cmdline
            BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro
            $ cat /sys/class/net/enp3s0f0/phys_switch_id
            0c42a1fffeea3930
            $ cat /sys/bus/pci/drivers_probe
            read /sys/bus/pci/drivers_probe: permission denied
            $ cat /sys/class/net/nothing/mtu
            read /sys/class/net/nothing/mtu: no such file or directory
        "#]],
    );
}

#[test]
fn vfs_come_and_go_as_the_kernel_has_it() {
    let host = SimHost::new(worker());
    check(
        &host,
        "echo 9 > $PF/sriov_numvfs
         echo -1 > $PF/sriov_numvfs
         echo 2 > $PF/sriov_numvfs
         echo 4 > $PF/sriov_numvfs
         cat $PF/sriov_numvfs
         readlink $PF/virtfn1
         readlink $PF/virtfn1/physfn
         ls $PF/virtfn1/net
         ls $PF/virtfn1/infiniband
         cat $PF/virtfn1/device
         echo 0000:03:00.3 > $PF/virtfn1/driver/unbind
         ls $PF/virtfn1/net
         echo 0000:03:00.3 > /sys/bus/pci/drivers/mlx5_core/unbind
         echo 0000:03:00.3 > /sys/bus/pci/drivers/mlx5_core/bind
         echo 0000:03:00.3 > /sys/bus/pci/drivers/mlx5_core/bind
         ls $PF/virtfn1/infiniband_verbs
         echo 0000:ff:00.0 > /sys/bus/pci/drivers_probe
         echo 0 > $PF/sriov_numvfs
         ls $PF/virtfn0/net
         echo 2 > $PF/vendor
         echo 2 > /sys/bus/pci/devices/0000:01:00.0/sriov_numvfs",
        expect![[r#"
            $ echo 9 > $PF/sriov_numvfs
            write 9 to /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs: numerical result out of range
            $ echo -1 > $PF/sriov_numvfs
            write -1 to /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs: invalid argument
            $ echo 2 > $PF/sriov_numvfs
            $ echo 4 > $PF/sriov_numvfs
            write 4 to /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs: device or resource busy
            $ cat $PF/sriov_numvfs
            2
            $ readlink $PF/virtfn1
            ../0000:03:00.3
            $ readlink $PF/virtfn1/physfn
            ../0000:03:00.0
            $ ls $PF/virtfn1/net
            enp3s0f0v1
            $ ls $PF/virtfn1/infiniband
            mlx5_5
            $ cat $PF/virtfn1/device
            0x1018
            $ echo 0000:03:00.3 > $PF/virtfn1/driver/unbind
            $ ls $PF/virtfn1/net
            list /sys/bus/pci/devices/0000:03:00.0/virtfn1/net: no such file or directory
            $ echo 0000:03:00.3 > /sys/bus/pci/drivers/mlx5_core/unbind
            write 0000:03:00.3 to /sys/bus/pci/drivers/mlx5_core/unbind: no such device
            $ echo 0000:03:00.3 > /sys/bus/pci/drivers/mlx5_core/bind
            $ echo 0000:03:00.3 > /sys/bus/pci/drivers/mlx5_core/bind
            write 0000:03:00.3 to /sys/bus/pci/drivers/mlx5_core/bind: device or resource busy
            $ ls $PF/virtfn1/infiniband_verbs
            uverbs6
            $ echo 0000:ff:00.0 > /sys/bus/pci/drivers_probe
            write 0000:ff:00.0 to /sys/bus/pci/drivers_probe: no such device
            $ echo 0 > $PF/sriov_numvfs
            $ ls $PF/virtfn0/net
            list /sys/bus/pci/devices/0000:03:00.0/virtfn0/net: no such file or directory
            $ echo 2 > $PF/vendor
            write 2 to /sys/bus/pci/devices/0000:03:00.0/vendor: permission denied
            $ echo 2 > /sys/bus/pci/devices/0000:01:00.0/sriov_numvfs
            write 2 to /sys/bus/pci/devices/0000:01:00.0/sriov_numvfs: no such file or directory
        "#]],
    );
}

#[test]
fn a_vf_without_autoprobe_refuses_its_driver_unless_it_is_overridden() {
    let mut machine = worker();
    machine.modules.insert("vfio_pci".to_owned());
    let host = SimHost::new(machine);
    check(
        &host,
        "echo 0 > $PF/sriov_drivers_autoprobe
         echo 1 > $PF/sriov_numvfs
         ls $PF/virtfn0
         echo 0000:03:00.2 > /sys/bus/pci/drivers/mlx5_core/bind
         echo 0000:03:00.2 > /sys/bus/pci/drivers_probe
         readlink $PF/virtfn0/driver
         echo vfio-pci > $PF/virtfn0/driver_override
         echo 0000:03:00.2 > /sys/bus/pci/drivers/mlx5_core/bind
         echo 0000:03:00.2 > /sys/bus/pci/drivers_probe
         readlink $PF/virtfn0/driver
         ls /dev/vfio",
        expect![[r#"
            $ echo 0 > $PF/sriov_drivers_autoprobe
            $ echo 1 > $PF/sriov_numvfs
            $ ls $PF/virtfn0
            class device driver_override iommu_group local_cpulist modalias numa_node physfn reset revision subsystem subsystem_device subsystem_vendor uevent vendor
            $ echo 0000:03:00.2 > /sys/bus/pci/drivers/mlx5_core/bind
            write 0000:03:00.2 to /sys/bus/pci/drivers/mlx5_core/bind: no such device
            $ echo 0000:03:00.2 > /sys/bus/pci/drivers_probe
            $ readlink $PF/virtfn0/driver
            read the link /sys/bus/pci/devices/0000:03:00.0/virtfn0/driver: no such file or directory
            $ echo vfio-pci > $PF/virtfn0/driver_override
            $ echo 0000:03:00.2 > /sys/bus/pci/drivers/mlx5_core/bind
            write 0000:03:00.2 to /sys/bus/pci/drivers/mlx5_core/bind: no such device
            $ echo 0000:03:00.2 > /sys/bus/pci/drivers_probe
            $ readlink $PF/virtfn0/driver
            ../../../../bus/pci/drivers/vfio-pci
            $ ls /dev/vfio
            2410 vfio
        "#]],
    );
}

#[test]
fn the_rdma_mode_is_refused_while_another_namespace_exists() {
    let host = SimHost::new(worker());
    check(
        &host,
        "rdma mode
         netns add a
         rdma mode exclusive
         rdma mode shared
         netns del a
         rdma mode exclusive
         rdma mode
         cat /sys/module/ib_core/parameters/netns_mode",
        expect![[r#"
            $ rdma mode
            shared
            $ netns add a
            $ rdma mode exclusive
            set rdma mode exclusive from the host's namespace: device or resource busy
            $ rdma mode shared
            $ netns del a
            $ rdma mode exclusive
            $ rdma mode
            exclusive
            $ cat /sys/module/ib_core/parameters/netns_mode
            N
        "#]],
    );
}

#[test]
fn an_rdma_device_moves_in_exclusive_mode_alone_and_its_namespace_gives_it_back() {
    let host = SimHost::new(worker());
    host.write(&format!("{PF}/sriov_numvfs"), "2").unwrap();
    let vf = rdma(&host, &Namespace::Host, "mlx5_4");
    host.machine().create_namespace("/var/run/netns/a").unwrap();
    let shared = change_rdma(&host, RdmaChange::Move { device: vf, to: pod_path() });
    assert_eq!(
        shared.unwrap_err(),
        format!(
            "move rdma device {vf} to namespace /var/run/netns/a from the host's namespace: operation not supported"
        )
    );
    host.machine().rdma.mode = Some(RdmaMode::Exclusive);
    change_rdma(&host, RdmaChange::Move { device: vf, to: pod_path() }).unwrap();
    check(
        &host,
        "rdma list host
         rdma list a
         ls $PF/virtfn0/infiniband
         ls $PF/virtfn0/infiniband_verbs
         netns del a
         rdma list host",
        expect![[r#"
            $ rdma list host
            mlx5_0 mlx5_1 mlx5_2 irdma0 mlx5_3 mlx5_5
            $ rdma list a
            mlx5_4
            $ ls $PF/virtfn0/infiniband
            $ ls $PF/virtfn0/infiniband_verbs
            uverbs5
            $ netns del a
            $ rdma list host
            mlx5_0 mlx5_1 mlx5_2 irdma0 mlx5_3 mlx5_4 mlx5_5
        "#]],
    );
}

#[test]
fn a_move_may_cost_an_rdma_device_its_uverbs_number() {
    let host = SimHost::new(worker());
    host.write(&format!("{PF}/sriov_numvfs"), "2").unwrap();
    {
        let mut machine = host.machine();
        machine.create_namespace("/var/run/netns/a").unwrap();
        machine.rdma.mode = Some(RdmaMode::Exclusive);
        machine.faults.insert(Fault::RenumbersUverbs);
    }
    let device = rdma(&host, &Namespace::Host, "mlx5_4");
    let before = host.read(&format!("{PF}/virtfn0/infiniband_verbs/uverbs5/dev")).unwrap();
    change_rdma(&host, RdmaChange::Move { device, to: pod_path() }).unwrap();
    assert_eq!(String::from_utf8_lossy(&before), "231:197\n");
    check(
        &host,
        "ls $PF/virtfn0/infiniband_verbs",
        expect![[r#"
        $ ls $PF/virtfn0/infiniband_verbs
        uverbs7
    "#]],
    );
}

#[test]
fn a_pod_sees_its_own_devices_and_nothing_of_the_host() {
    let host = SimHost::new(worker());
    host.write(&format!("{PF}/sriov_numvfs"), "1").unwrap();
    {
        let mut machine = host.machine();
        machine.create_namespace("/var/run/netns/a").unwrap();
        machine.add_virtual_link(Some("/var/run/netns/a"), "eth0", "veth").unwrap();
        machine.rdma.mode = Some(RdmaMode::Exclusive);
    }
    let device = rdma(&host, &Namespace::Host, "mlx5_4");
    change_rdma(&host, RdmaChange::Move { device, to: pod_path() }).unwrap();
    let vf = link(&host, &Namespace::Host, "enp3s0f0v0");
    let into = LinkChange::Move { link: vf, to: pod_path(), name: Some("net1".to_owned()) };
    host.change_link(&Namespace::Host, &into).unwrap();
    let node = host.device_node("/dev/infiniband/uverbs4").unwrap();
    let pod =
        host.in_pod(&pod_path(), vec![node]).unwrap().with_file("/etc/os-release", "ID=alpine\n");
    check(
        &pod,
        "ls /sys/class/net
         ls /sys/class/infiniband
         ls /dev/infiniband
         cat /sys/class/infiniband/mlx5_4/ports/1/counters/port_xmit_data
         ls /sys/class/infiniband/mlx5_4/ports/1/hw_counters
         cat /etc/os-release
         ls /var/lib
         echo 0 > $PF/sriov_numvfs",
        expect![[r#"
            $ ls /sys/class/net
            eth0 lo net1
            $ ls /sys/class/infiniband
            mlx5_4
            $ ls /dev/infiniband
            uverbs4
            $ cat /sys/class/infiniband/mlx5_4/ports/1/counters/port_xmit_data
            0
            $ ls /sys/class/infiniband/mlx5_4/ports/1/hw_counters
            duplicate_request lifespan np_cnp_sent out_of_buffer out_of_sequence packet_seq_err rnr_nak_retry_err rx_write_requests
            $ cat /etc/os-release
            ID=alpine
            $ ls /var/lib
            list /var/lib: no such file or directory
            $ echo 0 > $PF/sriov_numvfs
            write 0 to /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs: read-only file system
        "#]],
    );
    check(
        &host,
        "ls $PF/virtfn0/net
         ls $PF/virtfn0/infiniband
         netns del a
         ls $PF/virtfn0/net",
        expect![[r#"
            $ ls $PF/virtfn0/net
            $ ls $PF/virtfn0/infiniband
            $ netns del a
            $ ls $PF/virtfn0/net
            net1
        "#]],
    );
}

#[test]
fn a_returning_interface_whose_name_is_taken_is_renamed() {
    let host = SimHost::new(worker());
    host.write(&format!("{PF}/sriov_numvfs"), "1").unwrap();
    host.machine().create_namespace("/var/run/netns/a").unwrap();
    let vf = link(&host, &Namespace::Host, "enp3s0f0v0");
    let into = LinkChange::Move { link: vf, to: pod_path(), name: Some("enp3s0f1".to_owned()) };
    host.change_link(&Namespace::Host, &into).unwrap();
    host.machine().delete_namespace("/var/run/netns/a").unwrap();
    check(
        &host,
        "ls $PF/virtfn0/net",
        expect![[r#"
        $ ls $PF/virtfn0/net
        dev9
    "#]],
    );
}

#[test]
fn a_boot_forgets_what_is_not_on_a_disk_and_reads_its_levers_again() {
    let host = SimHost::new(worker());
    host.replace("/etc/modprobe.d/rdma.conf", b"options ib_core netns_mode=0\n", 0o644).unwrap();
    host.replace("/run/ironrail/offer.json", b"{}", 0o644).unwrap();
    check(
        &host,
        "echo 2 > $PF/sriov_numvfs
         netns add a
         boot
         cat $PF/sriov_numvfs
         ls /run/netns
         cat /run/ironrail/offer.json
         rdma mode",
        expect![[r#"
            $ echo 2 > $PF/sriov_numvfs
            $ netns add a
            $ boot
            $ cat $PF/sriov_numvfs
            0
            $ ls /run/netns
            $ cat /run/ironrail/offer.json
            read /run/ironrail/offer.json: no such file or directory
            $ rdma mode
            exclusive
        "#]],
    );
    let shared = ["--update-kernel=DEFAULT", "--args=ib_core.netns_mode=1"];
    host.run(&Program::Grubby, &shared, b"").unwrap();
    check(
        &host,
        "cat /proc/cmdline
         boot
         cat /proc/cmdline
         rdma mode",
        expect![[r#"
            $ cat /proc/cmdline
            BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro
            $ boot
            $ cat /proc/cmdline
            BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro ib_core.netns_mode=1
            $ rdma mode
            shared
        "#]],
    );
    host.machine().faults.insert(Fault::IgnoresKernelArgument);
    check(
        &host,
        "boot
         rdma mode",
        expect![[r#"
            $ boot
            $ rdma mode
            exclusive
        "#]],
    );
}

#[test]
fn vf_settings_go_through_the_pf_and_each_driver_refuses_its_own() {
    let host = SimHost::new(worker());
    let igb = "/sys/bus/pci/devices/0000:07:00.0/sriov_numvfs";
    host.write(igb, "1").unwrap();
    host.write(&format!("{PF}/sriov_numvfs"), "1").unwrap();
    let settings = [
        VfSetting::Mac([2, 0, 0, 0, 0, 1]),
        VfSetting::Vlan(Vlan { id: 100, qos: 3, protocol: 0x8100 }),
        VfSetting::Vlan(Vlan { id: 100, qos: 0, protocol: 0x88a8 }),
        VfSetting::Rate { min: 0, max: 500 },
        VfSetting::Rate { min: 100, max: 500 },
        VfSetting::Trust(true),
        VfSetting::LinkState(VfLinkState::Enable),
        VfSetting::NodeGuid(1),
    ];
    let mut out = String::new();
    for pf in ["enp7s0", "enp3s0f0"] {
        for setting in &settings {
            let link = link(&host, &Namespace::Host, pf);
            let change = LinkChange::Vf { link, vf: 0, setting: setting.clone() };
            let answer = host.change_link(&Namespace::Host, &change);
            let answer = answer.map_or_else(|error| words(error.errno), |()| "yes".to_owned());
            out.push_str(&format!(
                "{pf} {}: {answer}\n",
                crate::tried::describe_vf_setting(setting)
            ));
        }
    }
    let query =
        LinkQuery { name: Some("enp3s0f0".to_owned()), with_vfs: true, ..LinkQuery::default() };
    out.push_str(&format!("{:?}\n", host.links(&Namespace::Host, &query).unwrap()[0].vfs));
    expect![[r#"
        enp7s0 mac 02:00:00:00:00:01: yes
        enp7s0 vlan 100 qos 3 proto 0x8100: yes
        enp7s0 vlan 100 qos 0 proto 0x88a8: protocol not supported
        enp7s0 rate min 0 max 500: yes
        enp7s0 rate min 100 max 500: invalid argument
        enp7s0 trust on: yes
        enp7s0 link state enable: operation not supported
        enp7s0 node guid 00:00:00:00:00:00:00:01: operation not supported
        enp3s0f0 mac 02:00:00:00:00:01: yes
        enp3s0f0 vlan 100 qos 3 proto 0x8100: yes
        enp3s0f0 vlan 100 qos 0 proto 0x88a8: protocol not supported
        enp3s0f0 rate min 0 max 500: yes
        enp3s0f0 rate min 100 max 500: yes
        enp3s0f0 trust on: yes
        enp3s0f0 link state enable: yes
        enp3s0f0 node guid 00:00:00:00:00:00:00:01: operation not supported
        [VfLink { index: 0, mac: [2, 0, 0, 0, 0, 1], vlan: Some(Vlan { id: 100, qos: 3, protocol: 33024 }), spoof_check: Some(false), trust: Some(true), link_state: Some(Enable), min_tx_rate: Some(100), max_tx_rate: Some(500), node_guid: None, port_guid: None }]
    "#]].assert_eq(&out);
}

#[test]
fn late_vfs_come_with_the_clock() {
    let host = SimHost::new(worker().with(Fault::VfsAppearLate));
    host.write(&format!("{PF}/sriov_numvfs"), "1").unwrap();
    assert!(host.metadata(&format!("{PF}/virtfn0")).is_err());
    host.wait(&[], Duration::from_secs(10));
    assert!(host.metadata(&format!("{PF}/virtfn0")).is_ok());
    assert_eq!(host.take_waited(), Duration::from_secs(3));
    assert_eq!(host.take_waited(), Duration::ZERO);
}

#[test]
fn a_change_that_blocks_is_given_up_and_ends_by_itself() {
    let host = SimHost::new(worker().with(Fault::VfRemovalBlocks));
    let file = format!("{PF}/sriov_numvfs");
    host.write(&file, "1").unwrap();
    expect!["write 0 to /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs: timed out (after 60 s the kernel is still at it and cannot be stopped; a process or a connection uses a device of the card: end it (see /dev/infiniband, rdma resource show), or reboot the node)"]
        .assert_eq(&host.write(&file, "0").unwrap_err().to_string());
    assert_eq!(host.take_waited(), Duration::from_secs(60));
    assert_eq!(host.process().take_waited(), Duration::ZERO);
    assert_eq!(host.unfinished().len(), 1);
    // Nothing of the card is begun meanwhile; the VF is still there.
    for refused in [host.write(&file, "4").map(|()| vec![]), host.read(&file)] {
        assert_eq!(refused.unwrap_err().errno, Errno::ALREADY);
    }
    assert!(host.metadata(&format!("{PF}/virtfn0")).is_ok());
    host.wait(&[], Duration::from_secs(100));
    assert_eq!(host.take_waited(), Duration::from_secs(60));
    assert!(host.unfinished().is_empty());
    assert_eq!(host.read(&file).unwrap(), b"0\n");
}

#[test]
fn of_two_modprobe_files_the_later_name_counts_and_etc_hides_the_vendors() {
    let mode_after = |files: &[(&str, &str)]| {
        let mut machine = worker();
        for (path, text) in files {
            machine.files.insert((*path).to_owned(), text.as_bytes().to_vec());
        }
        machine.boot();
        machine.rdma.mode.unwrap().to_string()
    };
    let (shared, exclusive) = ("options ib_core netns_mode=1\n", "options ib_core netns_mode=0\n");
    let modes = [
        mode_after(&[
            ("/etc/modprobe.d/a.conf", shared),
            ("/usr/lib/modprobe.d/b.conf", exclusive),
        ]),
        mode_after(&[
            ("/etc/modprobe.d/b.conf", shared),
            ("/usr/lib/modprobe.d/b.conf", exclusive),
        ]),
        mode_after(&[("/etc/modprobe.d/a", exclusive)]),
        mode_after(&[("/etc/modprobe.d/a.conf", "# options ib_core netns_mode=0\n")]),
    ];
    assert_eq!(modes, ["exclusive", "shared", "shared", "shared"]);
}

#[test]
fn a_lock_is_one_holders_and_goes_with_it() {
    let host = SimHost::new(worker());
    let held = host.lock("/run/ironrail/vf/a.lock", Duration::ZERO).unwrap();
    let refused = host.lock("/run/ironrail/vf/a.lock", Duration::from_secs(60)).unwrap_err();
    assert_eq!(refused.to_string(), "lock /run/ironrail/vf/a.lock: timed out");
    assert_eq!(host.take_waited(), Duration::from_secs(60));
    drop(held);
    assert!(host.lock("/run/ironrail/vf/a.lock", Duration::ZERO).is_ok());
}

#[test]
fn host_local_gives_addresses_in_turn_and_takes_them_back() {
    let host = SimHost::new(worker());
    let call = |command: &str, container: &str| {
        let environment = vec![
            format!("CNI_COMMAND={command}"),
            format!("CNI_CONTAINERID={container}"),
            "CNI_IFNAME=net1".to_owned(),
        ];
        let program = Program::Ipam { path: "/opt/cni/bin/host-local".to_owned(), environment };
        let conf = r#"{"cniVersion":"1.0.0","name":"rdma-network","ipam":{"type":"host-local","subnet":"10.10.10.0/24","rangeStart":"10.10.10.171","rangeEnd":"10.10.10.172","routes":[{"dst":"0.0.0.0/0"}]}}"#;
        let output = host.run(&program, &[], conf.as_bytes()).unwrap();
        format!(
            "{command} {container}: {} {}",
            output.status,
            String::from_utf8_lossy(&output.stdout).trim()
        )
    };
    let lines = [
        call("ADD", "a"),
        call("ADD", "a"),
        call("ADD", "b"),
        call("ADD", "c"),
        call("CHECK", "b"),
        call("DEL", "a"),
        call("DEL", "a"),
        call("CHECK", "a"),
        call("ADD", "d"),
        host.list("/var/lib/cni/networks/rdma-network").unwrap().join(" "),
    ];
    expect![[r#"
        ADD a: 0 {"cniVersion":"1.0.0","ips":[{"address":"10.10.10.171/24","gateway":"10.10.10.1"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{}}
        ADD a: 1 {"cniVersion":"1.0.0","code":999,"msg":"failed to allocate for range 0: 10.10.10.171 has been allocated to a, duplicate allocation is not allowed"}
        ADD b: 0 {"cniVersion":"1.0.0","ips":[{"address":"10.10.10.172/24","gateway":"10.10.10.1"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{}}
        ADD c: 1 {"cniVersion":"1.0.0","code":999,"msg":"failed to allocate for range 0: no IP addresses available in range set: 10.10.10.171-10.10.10.172"}
        CHECK b: 0 
        DEL a: 0 
        DEL a: 0 
        CHECK a: 1 {"cniVersion":"1.0.0","code":999,"msg":"host-local: Failed to find address added by container a"}
        ADD d: 0 {"cniVersion":"1.0.0","ips":[{"address":"10.10.10.171/24","gateway":"10.10.10.1"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{}}
        10.10.10.171 10.10.10.172 last_reserved_ip.0"#]].assert_eq(&lines.join("\n"));
}

#[test]
fn the_tool_for_kernel_arguments_is_the_distributions() {
    let mut out = String::new();
    for flavour in [
        Flavour::Rhel,
        Flavour::Ubuntu,
        Flavour::Coreos,
        Flavour::SleMicro,
        Flavour::NoTool,
        Flavour::Immutable,
    ] {
        let host = SimHost::new(Machine::small_worker("worker-0", flavour, Timestamp::UNIX_EPOCH));
        let argument = "ib_core.netns_mode=0";
        let drop_in = format!("GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {argument}\"\n");
        let _ = host.replace("/etc/default/grub.d/ironrail.cfg", drop_in.as_bytes(), 0o644);
        let calls = [
            (
                Program::Grubby,
                vec!["--update-kernel=DEFAULT".to_owned(), format!("--args={argument}")],
            ),
            (Program::UpdateGrub, vec![]),
            (
                Program::RpmOstree,
                vec!["kargs".to_owned(), format!("--append-if-missing={argument}")],
            ),
        ];
        for (program, arguments) in calls {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let answer = host.run(&program, &arguments, b"");
            let answer = answer.map_or_else(
                |error| words(error.errno),
                |output| format!("status {}", output.status),
            );
            out.push_str(&format!("{flavour:?} {}: {answer}\n", program.name()));
        }
        host.machine().boot();
        let line = String::from_utf8(host.read("/proc/cmdline").unwrap()).unwrap();
        out.push_str(&format!(
            "{flavour:?} after boot: {} {}\n",
            host.rdma_mode().unwrap(),
            line.trim()
        ));
    }
    expect![[r#"
        Rhel grubby: status 0
        Rhel update-grub: no such file or directory
        Rhel rpm-ostree: no such file or directory
        Rhel after boot: exclusive BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro ib_core.netns_mode=0
        Ubuntu grubby: no such file or directory
        Ubuntu update-grub: status 0
        Ubuntu rpm-ostree: no such file or directory
        Ubuntu after boot: exclusive BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro ib_core.netns_mode=0
        Coreos grubby: no such file or directory
        Coreos update-grub: no such file or directory
        Coreos rpm-ostree: status 0
        Coreos after boot: exclusive BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro ib_core.netns_mode=0
        SleMicro grubby: no such file or directory
        SleMicro update-grub: no such file or directory
        SleMicro rpm-ostree: no such file or directory
        SleMicro after boot: shared BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro
        NoTool grubby: no such file or directory
        NoTool update-grub: no such file or directory
        NoTool rpm-ostree: no such file or directory
        NoTool after boot: shared BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro
        Immutable grubby: no such file or directory
        Immutable update-grub: no such file or directory
        Immutable rpm-ostree: no such file or directory
        Immutable after boot: shared BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro
    "#]]
    .assert_eq(&out);
}

#[test]
fn firmware_settings_wait_for_the_boot() {
    let host = SimHost::new(worker());
    let set = ["-d", "0000:03:00.0", "-y", "set", "NUM_OF_VFS=4"];
    let output = host.run(&Program::Mstconfig, &set, b"").unwrap();
    assert_eq!(output.status, 0);
    let query = ["-e", "-d", "0000:03:00.1", "q"];
    let before = host.run(&Program::Mstconfig, &query, b"").unwrap();
    expect![[r#"

        Device #1:
        ----------

        Device type:    ConnectX
        Device:         0000:03:00.1

        Configurations:                         Default                 Current                 Next Boot
                LINK_TYPE_P1                    ETH(2)                  ETH(2)                  ETH(2)
                LINK_TYPE_P2                    ETH(2)                  ETH(2)                  ETH(2)
        *       NUM_OF_VFS                      0                       8                       4
                SRIOV_EN                        False(0)                True(1)                 True(1)
    "#]].assert_eq(&String::from_utf8_lossy(&before.stdout));
    check(
        &host,
        "cat $PF/sriov_totalvfs
         boot
         cat $PF/sriov_totalvfs",
        expect![[r#"
            $ cat $PF/sriov_totalvfs
            8
            $ boot
            $ cat $PF/sriov_totalvfs
            4
        "#]],
    );
}

/// Every entry that a directory lists can be looked at, and every link leads somewhere.
#[test]
fn the_whole_of_sysfs_holds_together() {
    let host = SimHost::new(worker());
    host.write(&format!("{PF}/sriov_numvfs"), "8").unwrap();
    let mut todo = vec!["/sys".to_owned(), "/proc".to_owned(), "/dev".to_owned()];
    let mut seen = 0;
    while let Some(path) = todo.pop() {
        seen += 1;
        if host.link_target(&path).is_ok() {
            host.metadata(&path).unwrap_or_else(|error| panic!("a link leads nowhere: {error}"));
            continue;
        }
        host.metadata(&path).unwrap_or_else(|error| panic!("{error}"));
        if let Ok(names) = host.list(&path) {
            todo.extend(names.into_iter().map(|name| format!("{path}/{name}")));
        }
    }
    assert!(seen > 1000, "only {seen} entries");
}

#[test]
fn a_machine_is_plain_data() {
    let host = SimHost::new(worker());
    host.write(&format!("{PF}/sriov_numvfs"), "2").unwrap();
    let machine = host.snapshot();
    let text = serde_json::to_string(&machine).unwrap();
    assert_eq!(serde_json::from_str::<Machine>(&text).unwrap(), machine);
}
