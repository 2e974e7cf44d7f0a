//! The contract of RDMA devices on VFs: where they stand, who sees them, how they move, and how they come home.
//!
//! The simulation's card is a ConnectX; in the lab it is the emulated card with the soft RDMA driver on each function.
//! What is compared is what ib_core does, which both share, and not what a driver says of its hardware.

use super::cases::{Case, Stage};
use api::journal::{Owner, RdmaCustody, Record, VERSION};
use api::{PciAddress, RdmaMode};
use host::home;
use host::seam::{LinkChange, Namespace, RdmaChange, RdmaDevice, Refusal};
use rustix::io::Errno;
use std::time::Duration;

pub const CASES: [Case; 8] = [
    ("an rdma device stands below its vf, and in shared mode everybody sees it", shared),
    ("the rdma mode is switched with devices there, and not with a pod there", switched),
    ("an rdma device follows its interface into a pod, and both come home", interface_first),
    ("an rdma device goes into a pod before its interface, and both come home", device_first),
    ("a name is of its namespace, and gives way at the namespace's end", names),
    ("an rdma device that moves takes the lowest free numbers", numbers),
    ("an rdma device in a pod goes with its vf", gone),
    ("the way home of an rdma device says what was done and why not", operations),
];

const HOME: Namespace = Namespace::Host;

impl Stage<'_> {
    /// A mode, two VFs, and a device on each.
    fn begin(&mut self, mode: RdmaMode) {
        // Namespaces end in their own time after their last holder, so a switch right after may find one.
        let switch = || self.host.change_rdma(&HOME, &RdmaChange::Mode(mode));
        let mut outcome = switch();
        for _ in 0..50 {
            if !matches!(&outcome, Err(refusal) if refusal.errno == Errno::BUSY) {
                break;
            }
            self.host.wait(&[], Duration::from_millis(100));
            outcome = switch();
        }
        self.say(&format!("mode {mode}"), outcome.map(|()| "done"));
        self.write("sriov_numvfs", "2");
        self.pods.rdma_devices(&[self.vf(0), self.vf(1)]);
    }

    /// The device of a function, while the host sees it.
    fn rdma(&self, function: PciAddress) -> RdmaDevice {
        let found = home::rdma_devices_at_home(self.host, &function.to_string());
        found.unwrap_or_default().pop().unwrap_or_default()
    }

    fn change_rdma(&mut self, what: &str, space: &Namespace, change: &RdmaChange) {
        let outcome = self.host.change_rdma(space, change).map(|()| "done");
        self.say(what, outcome);
    }

    fn move_interface(&mut self, function: PciAddress, to: &Namespace) {
        let link = self.netdev(&HOME, function).unwrap_or_default().index;
        let change = LinkChange::Move { link, to: to.clone(), name: Some("net1".to_owned()) };
        let outcome = self.host.change_link(&HOME, &change).map(|()| "done");
        self.say("the interface moves", outcome);
    }

    /// All devices that a namespace sees, each with its interface by role.
    fn devices(&mut self, what: &str, space: &Namespace) {
        let vfs = [0, 1].map(|index| self.netdev(space, self.vf(index)));
        let role = |index: u32| {
            let found = vfs.iter().position(|link| link.as_ref().is_some_and(|l| l.index == index));
            found.map_or("another".to_owned(), |found| format!("VF{found}'s"))
        };
        let host = self.host;
        let tell = |device: RdmaDevice| {
            let interfaces: Vec<String> = host
                .rdma_ports(space, device.index)
                .unwrap_or_default()
                .iter()
                .map(|port| port.netdev.map_or("none".to_owned(), &role))
                .collect();
            format!("{} ({})", device.name, interfaces.join(" "))
        };
        let devices = self.host.rdma_devices(space);
        let told =
            devices.map(|devices| devices.into_iter().map(tell).collect::<Vec<_>>().join(", "));
        self.say(what, told);
    }

    /// What sysfs of the host has below a function.
    fn below(&mut self, index: u32) {
        let vf = self.vf(index);
        for class in ["infiniband", "infiniband_verbs", "infiniband_mad"] {
            let names = self.host.list(&vf.file(class)).map(|names| names.join(" "));
            self.say(&format!("VF{index} {class}"), names);
        }
    }

    /// Waits until a dead namespace has given everything back.
    fn pods_end(&mut self, index: u32) {
        self.pods.end();
        let vf = self.vf(index);
        for _ in 0..100 {
            if self.netdev(&HOME, vf).is_some() && !self.rdma(vf).name.is_empty() {
                break;
            }
            self.host.wait(&[], Duration::from_millis(100));
        }
        self.lines.push("the pod ends".to_owned());
    }

    /// The number of a function's character device.
    fn uverbs(&mut self, index: u32) {
        let vf = self.vf(index);
        let names = self.host.list(&vf.file("infiniband_verbs")).map(|names| names.join(" "));
        self.say(&format!("VF{index} has"), names);
    }
}

fn read(stage: &Stage<'_>, path: &str) -> Result<String, Refusal> {
    let content = stage.host.read(path)?;
    Ok(String::from_utf8_lossy(&content).trim().to_owned())
}

fn shared(stage: &mut Stage<'_>) {
    stage.begin(RdmaMode::Shared);
    stage.below(0);
    let vf = stage.vf(0);
    for file in [
        "infiniband/mlx5_2/node_type",
        "infiniband/mlx5_2/ports/1/link_layer",
        "infiniband/mlx5_2/ports/1/state",
        "infiniband/mlx5_2/ports/1/phys_state",
        "infiniband/mlx5_2/ports/1/gid_attrs/types/3",
        "infiniband/mlx5_2/ports/2/state",
        "infiniband_verbs/uverbs2/ibdev",
        "infiniband_verbs/uverbs2/dev",
        "infiniband_mad/umad2/ibdev",
        "infiniband_mad/umad2/port",
        "infiniband_mad/umad2/dev",
    ] {
        let content = read(stage, &vf.file(file));
        stage.say(file, content);
    }
    let target = stage.host.link_target("/sys/class/infiniband/mlx5_2");
    let below = target.map(|target| target.ends_with(&format!("{vf}/infiniband/mlx5_2")));
    stage.say("the class leads below VF0", below);
    let hardware = stage.host.list(&vf.file("infiniband/mlx5_2/ports/1/hw_counters"));
    stage.say("has hardware counters", hardware.map(|names| !names.is_empty()));
    stage.devices("the host sees", &HOME);
    let pod = stage.pods.start();
    stage.devices("a pod sees", &pod);
    let device = stage.rdma(vf).index;
    let moving = RdmaChange::Move { device, to: pod.clone() };
    stage.change_rdma("move", &HOME, &moving);
    let rename = |name: &str| RdmaChange::Rename { device, name: name.to_owned() };
    stage.change_rdma("the name of another", &HOME, &rename("mlx5_0"));
    stage.change_rdma("its own name", &HOME, &rename("mlx5_2"));
    stage.change_rdma("a name", &HOME, &rename("rdma0"));
    stage.below(0);
    stage.change_rdma("its name again", &HOME, &rename("mlx5_2"));
}

fn switched(stage: &mut Stage<'_>) {
    stage.begin(RdmaMode::Shared);
    stage.change_rdma("exclusive", &HOME, &RdmaChange::Mode(RdmaMode::Exclusive));
    stage.devices("the host sees", &HOME);
    stage.change_rdma("shared", &HOME, &RdmaChange::Mode(RdmaMode::Shared));
    let pod = stage.pods.start();
    stage.change_rdma("exclusive with a pod", &HOME, &RdmaChange::Mode(RdmaMode::Exclusive));
    stage.devices("the pod sees", &pod);
}

fn interface_first(stage: &mut Stage<'_>) {
    stage.begin(RdmaMode::Exclusive);
    let (vf, pod) = (stage.vf(0), stage.pods.start());
    stage.devices("the pod sees", &pod);
    stage.move_interface(vf, &pod);
    stage.devices("the host sees", &HOME);
    stage.devices("the pod sees", &pod);
    let device = stage.rdma(vf).index;
    let nowhere = Namespace::At("/run/netns/nothing".to_owned());
    stage.change_rdma("move to nowhere", &HOME, &RdmaChange::Move { device, to: nowhere });
    stage.change_rdma("the device moves", &HOME, &RdmaChange::Move { device, to: pod.clone() });
    stage.devices("the host sees", &HOME);
    stage.devices("the pod sees", &pod);
    stage.below(0);
    stage.change_rdma("the host moves it", &HOME, &RdmaChange::Move { device, to: HOME });
    let rename = |name: &str| RdmaChange::Rename { device, name: name.to_owned() };
    stage.change_rdma("the host renames it", &HOME, &rename("rdma0"));
    stage.change_rdma("the pod renames it", &pod, &rename("rdma0"));
    let third = stage.pods.start();
    stage.devices("a third sees", &third);
    stage.pods_end(0);
    stage.devices("the host sees", &HOME);
    stage.below(0);
}

fn device_first(stage: &mut Stage<'_>) {
    stage.begin(RdmaMode::Exclusive);
    let (vf, pod) = (stage.vf(0), stage.pods.start());
    let device = stage.rdma(vf).index;
    stage.change_rdma("the device moves", &HOME, &RdmaChange::Move { device, to: pod.clone() });
    stage.devices("the host sees", &HOME);
    stage.devices("the pod sees", &pod);
    stage.move_interface(vf, &pod);
    stage.devices("the pod sees", &pod);
    stage.change_rdma("the pod gives it back", &pod, &RdmaChange::Move { device, to: HOME });
    stage.devices("the host sees", &HOME);
    stage.devices("the pod sees", &pod);
    stage.pods_end(0);
    stage.devices("the host sees", &HOME);
}

fn names(stage: &mut Stage<'_>) {
    stage.begin(RdmaMode::Exclusive);
    let (one, other) = (stage.pods.start(), stage.pods.start());
    let devices = [0, 1].map(|index| stage.rdma(stage.vf(index)).index);
    for (device, pod) in devices.into_iter().zip([&one, &other]) {
        let to_pod = RdmaChange::Move { device, to: pod.clone() };
        stage.change_rdma("a device moves", &HOME, &to_pod);
        let rename = RdmaChange::Rename { device, name: "mlx5_0".to_owned() };
        stage.change_rdma("its pod gives it a name of the host's", pod, &rename);
        stage.change_rdma("it moves home", pod, &RdmaChange::Move { device, to: HOME });
        stage.devices("the pod sees", pod);
    }
    stage.pods_end(0);
    stage.pods_end(1);
    for (index, device) in devices.into_iter().enumerate() {
        let vf = stage.vf(u32::try_from(index).expect("two of them"));
        let by_index = stage.rdma(vf).name == format!("ibdev{device}");
        stage.lines.push(format!("VF{index}'s is called by its index: {by_index}"));
    }
}

fn numbers(stage: &mut Stage<'_>) {
    stage.begin(RdmaMode::Exclusive);
    let pod = stage.pods.start();
    stage.uverbs(1);
    let device = stage.rdma(stage.vf(1)).index;
    stage.change_rdma("VF1's moves", &HOME, &RdmaChange::Move { device, to: pod.clone() });
    stage.uverbs(1);
    let driver =
        host::function::driver(stage.host, &stage.vf(0)).unwrap_or_default().unwrap_or_default();
    let path = format!("/sys/bus/pci/drivers/{driver}/unbind");
    let unbound = stage.host.write(&path, &stage.vf(0).to_string()).map(|()| "done");
    stage.say("unbind VF0", unbound);
    stage.change_rdma("VF1's moves back", &pod, &RdmaChange::Move { device, to: HOME });
    stage.uverbs(0);
    stage.uverbs(1);
}

fn gone(stage: &mut Stage<'_>) {
    stage.begin(RdmaMode::Exclusive);
    let (vf, pod) = (stage.vf(0), stage.pods.start());
    let device = stage.rdma(vf).index;
    stage.move_interface(vf, &pod);
    stage.change_rdma("the device moves", &HOME, &RdmaChange::Move { device, to: pod.clone() });
    stage.write("sriov_numvfs", "0");
    stage.devices("the host sees", &HOME);
    stage.devices("the pod sees", &pod);
}

/// The shipped way home, of a device that is there already, in the pod, called otherwise there, and nowhere.
fn operations(stage: &mut Stage<'_>) {
    stage.begin(RdmaMode::Exclusive);
    let (vf, pod) = (stage.vf(0), stage.pods.start());
    let found = stage.rdma(vf);
    let Namespace::At(path) = &pod else { return };
    let space = stage.host.metadata(path).ok();
    let owner = Owner {
        namespace: path.clone(),
        namespace_device: space.map_or(0, |space| space.device),
        namespace_inode: space.map_or(0, |space| space.inode),
        ..Owner::default()
    };
    let record = Record {
        version: VERSION,
        boot_id: String::new(),
        device: vf.to_string(),
        owner,
        since: stage.host.now(),
        vf: None,
        rdma: None,
    };
    let custody = RdmaCustody { name: found.name, index: found.index };
    let out = RdmaChange::Move { device: custody.index, to: pod.clone() };
    let otherwise = RdmaChange::Rename { device: custody.index, name: "rail0".to_owned() };
    let home = |stage: &mut Stage<'_>, what: &str, custody: &RdmaCustody| {
        let notes = home::rdma_home(stage.host, &record, custody);
        let plain = |text: String| text.replace(&vf.to_string(), "VF0");
        let told = notes.map(|notes| plain(notes.join("; ")));
        stage.told(what, told.map_err(|error| plain(error.to_string())));
    };
    home(stage, "home from home", &custody);
    stage.change_rdma("out", &HOME, &out);
    home(stage, "home", &custody);
    stage.change_rdma("out", &HOME, &out);
    stage.change_rdma("called otherwise", &pod, &otherwise);
    home(stage, "home", &custody);
    stage.change_rdma("out", &HOME, &out);
    let nowhere = RdmaCustody { name: "nothing".to_owned(), index: 9999 };
    home(stage, "what is nowhere", &nowhere);
    home(stage, "home", &custody);
}
