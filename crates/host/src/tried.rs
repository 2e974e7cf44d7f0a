//! What a primitive tried, in the words that `linux` and `sim` share, so that a message in a test is the message
//! in the field.

use crate::seam::Namespace;

pub fn read(path: &str) -> String {
    format!("read {path}")
}

pub fn write(path: &str, content: &str) -> String {
    let shown = content.trim_end_matches(['\n', '\0']);
    if shown.is_empty() {
        format!("write nothing to {path}")
    } else {
        format!("write {shown} to {path}")
    }
}

pub fn list(path: &str) -> String {
    format!("list {path}")
}

pub fn link_target(path: &str) -> String {
    format!("read the link {path}")
}

pub fn metadata(path: &str) -> String {
    format!("look at {path}")
}

pub fn replace(path: &str) -> String {
    format!("replace {path}")
}

pub fn append(path: &str) -> String {
    format!("add to {path}")
}

pub fn remove(path: &str) -> String {
    format!("remove {path}")
}

pub fn lock(path: &str) -> String {
    format!("lock {path}")
}

pub fn links(space: &Namespace) -> String {
    format!("list the links of {}", in_words(space))
}

pub fn change_link(space: &Namespace, change: &crate::seam::LinkChange) -> String {
    format!("{} in {}", describe_link_change(change), in_words(space))
}

/// The namespace as a sentence names it.
pub fn in_words(space: &Namespace) -> String {
    match space {
        Namespace::Host => "the host's namespace".to_owned(),
        Namespace::At(path) => format!("namespace {path}"),
    }
}

/// One change of an interface in a few words: `rename link 7 to net1`.
pub fn describe_link_change(change: &crate::seam::LinkChange) -> String {
    use crate::seam::LinkChange as C;
    match change {
        C::Up { link } => format!("set link {link} up"),
        C::Down { link } => format!("set link {link} down"),
        C::Promiscuous { link, on } => format!("set link {link} promiscuous {}", on_off(*on)),
        C::AllMulticast { link, on } => format!("set link {link} allmulticast {}", on_off(*on)),
        C::Mtu { link, mtu } => format!("set mtu {mtu} on link {link}"),
        C::Rename { link, name } => format!("rename link {link} to {name}"),
        C::Address { link, address } => format!("set address {} on link {link}", colons(address)),
        C::AddAltName { link, name } => format!("add altname {name} to link {link}"),
        C::RemoveAltName { link, name } => format!("remove altname {name} from link {link}"),
        C::Move { link, to, name: None } => format!("move link {link} to {}", in_words(to)),
        C::Move { link, to, name: Some(name) } => {
            format!("move link {link} to {} as {name}", in_words(to))
        }
        C::Vf { link, vf, setting } => {
            format!("set {} on vf {vf} of link {link}", describe_vf_setting(setting))
        }
    }
}

/// One setting of a VF in a few words: `mac 02:00:00:00:00:01`.
pub fn describe_vf_setting(setting: &crate::seam::VfSetting) -> String {
    use crate::seam::VfSetting as S;
    match setting {
        S::Mac(mac) => format!("mac {}", colons(mac)),
        S::Vlan(vlan) => format!("vlan {} qos {} proto {:#06x}", vlan.id, vlan.qos, vlan.protocol),
        S::Rate { min, max } => format!("rate min {min} max {max}"),
        S::SpoofCheck(on) => format!("spoof check {}", on_off(*on)),
        S::Trust(on) => format!("trust {}", on_off(*on)),
        S::LinkState(state) => format!("link state {}", format!("{state:?}").to_lowercase()),
        S::NodeGuid(guid) => format!("node guid {}", colons(&guid.to_be_bytes())),
        S::PortGuid(guid) => format!("port guid {}", colons(&guid.to_be_bytes())),
    }
}

/// One change of the RDMA subsystem in a few words: `move rdma device 3 to namespace /run/netns/a`.
pub fn describe_rdma_change(change: &crate::seam::RdmaChange) -> String {
    use crate::seam::RdmaChange as C;
    match change {
        C::Mode(mode) => format!("set rdma mode {mode}"),
        C::Move { device, to } => format!("move rdma device {device} to {}", in_words(to)),
        C::Rename { device, name } => format!("rename rdma device {device} to {name}"),
    }
}

/// One change through devlink in a few words: `set eswitch mode switchdev`.
pub fn describe_devlink_change(change: &crate::seam::DevlinkChange) -> String {
    use crate::seam::DevlinkChange as C;
    match change {
        C::Eswitch(mode) => format!("set eswitch mode {mode}"),
        C::Parameter { name, mode, value } => format!("set {mode} parameter {name} to {value}"),
    }
}

/// A program with its arguments as one line.
pub fn run(program: &crate::seam::Program, arguments: &[&str]) -> String {
    let mut line = format!("run {}", program.name());
    for argument in arguments {
        line.push(' ');
        line.push_str(argument);
    }
    line
}

/// A question for the ports of a device.
pub fn rdma_ports(space: &Namespace, device: u32) -> String {
    format!("list the ports of rdma device {device} in {}", in_words(space))
}

/// A question for the counters of a port.
pub fn rdma_counters(space: &Namespace, device: u32, port: u32) -> String {
    format!("ask for the counters of port {port} of rdma device {device} in {}", in_words(space))
}

/// A question for the resources of a device.
pub fn rdma_resources(space: &Namespace, device: u32) -> String {
    format!("count the resources of rdma device {device} in {}", in_words(space))
}

/// Bytes as the field writes hardware addresses and GUIDs: `02:00:00:00:00:01`.
pub fn colons(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

pub fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}
