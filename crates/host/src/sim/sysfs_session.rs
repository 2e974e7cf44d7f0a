//! What `/sys` and `/proc` show of connections that the host has over the network: block devices, mounts, TCP.

use super::machine::{HOST_NAMESPACE, Machine};
use super::sysfs::Node;
use std::net::{IpAddr, SocketAddr};

impl Machine {
    /// A class is there once its module is loaded.
    pub(super) fn session_classes(&self) -> Vec<&'static str> {
        let iscsi = !self.sessions.iscsi.is_empty();
        let nvme = !self.sessions.nvme.is_empty();
        let classes = [("iscsi_connection", iscsi), ("iscsi_session", iscsi), ("nvme", nvme)];
        classes.into_iter().filter(|(_, loaded)| *loaded).map(|(class, _)| class).collect()
    }

    /// drivers/scsi/scsi_transport_iscsi.c and drivers/nvme/host/sysfs.c, the attributes that are read.
    pub(super) fn session_node(&self, class: &str, parts: &[&str]) -> Option<Node> {
        if !self.session_classes().contains(&class) {
            return None;
        }
        let sessions = &self.sessions;
        let numbered = |prefix: &str, count: usize, suffix: &str| {
            Node::directory((0..count).map(|number| format!("{prefix}{number}{suffix}")))
        };
        let at = |name: &str| {
            let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
            digits.split(':').next()?.parse::<usize>().ok()
        };
        match (class, parts) {
            ("iscsi_connection", []) => numbered("connection", sessions.iscsi.len(), ":0"),
            ("iscsi_session", []) => numbered("session", sessions.iscsi.len(), ""),
            ("nvme", []) => numbered("nvme", sessions.nvme.len(), ""),
            ("iscsi_connection", [name]) => {
                sessions.iscsi.get(at(name)?)?;
                Node::directory(["address", "persistent_address"])
            }
            ("iscsi_connection", [name, "address" | "persistent_address"]) => {
                Node::line(&sessions.iscsi.get(at(name)?)?.1)
            }
            ("iscsi_session", [name]) => {
                sessions.iscsi.get(at(name)?)?;
                Node::directory(["targetname"])
            }
            ("nvme", [name]) => {
                sessions.nvme.get(at(name)?)?;
                Node::directory(["address", "subsysnqn", "transport"])
            }
            ("iscsi_session", [name, "targetname"]) => {
                Node::line(&sessions.iscsi.get(at(name)?)?.0)
            }
            ("nvme", [name, attribute]) => {
                let (transport, address, subsystem) = sessions.nvme.get(at(name)?)?;
                match *attribute {
                    "transport" => Node::line(transport),
                    "address" => Node::line(address),
                    "subsysnqn" => Node::line(subsystem),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    pub(super) fn network_mounts(&self) -> String {
        self.sessions.mounts.iter().map(|line| format!("{line}\n")).collect()
    }

    /// net/ipv4/tcp_ipv4.c, tcp4_seq_show, and its sibling for IPv6: address words in the machine's byte order, in hex.
    pub(super) fn tcp_table(&self, space: u64, table: &str) -> String {
        let mut text =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n"
                .to_owned();
        let here = self.sessions.connections.iter().filter(|_| space == HOST_NAMESPACE);
        let ours = here.filter(|peer| peer.is_ipv4() == (table == "tcp"));
        for (number, peer) in ours.enumerate() {
            let hex = hex(peer);
            text += &format!("{number:4}: {hex} {hex} 01 00000000:00000000 00:00000000 00000000\n");
        }
        text
    }
}

fn hex(address: &SocketAddr) -> String {
    let bytes: Vec<u8> = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = bytes.chunks(4).map(|w| u32::from_ne_bytes([w[0], w[1], w[2], w[3]]));
    let words: String = words.map(|word| format!("{word:08X}")).collect();
    format!("{words}:{:04X}", address.port())
}
