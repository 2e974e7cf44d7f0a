//! Addresses that the host must reach: of the API server, of mounted network file systems, of iSCSI and NVMe targets.
//!
//! Ceph block devices, storage over Fibre Channel and names that only DNS knows (a Gluster server's) are not found.

use super::Peer;
use crate::{Host, Refusal};
use api::lifeline::Carries;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where kubelets of the common distributions keep the address of their API server.
const KUBECONFIGS: [&str; 5] = [
    "/etc/kubernetes/kubelet.conf",
    "/var/lib/kubelet/kubeconfig",
    "/etc/kubernetes/kubeconfig",
    "/var/lib/rancher/k3s/agent/kubelet.kubeconfig",
    "/var/lib/rancher/rke2/agent/kubelet.kubeconfig",
];

/// All of them. A class or file that is not there says that there is none.
pub(super) fn peers(host: &dyn Host) -> Result<Vec<Peer>, Refusal> {
    let mut peers = api_servers(host)?;
    peers.extend(mounts(&text(host, "/proc/1/mounts")?));
    peers.extend(iscsi(host)?);
    peers.extend(nvme(host)?);
    Ok(peers)
}

fn text(host: &dyn Host, path: &str) -> Result<String, Refusal> {
    match host.read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).trim().to_owned()),
        // A session may end while it is read.
        Err(refusal) if [Errno::NOENT, Errno::NODEV, Errno::NOTCONN].contains(&refusal.errno) => {
            Ok(String::new())
        }
        Err(refusal) => Err(refusal),
    }
}

fn list(host: &dyn Host, path: &str) -> Result<Vec<String>, Refusal> {
    match host.list(path) {
        Err(refusal) if refusal.errno == Errno::NOENT => Ok(Vec::new()),
        other => other,
    }
}

/// The server of the kubelet's configuration. One that is a name, or this host's own load balancer, is found by the
/// connections that are open to its port.
fn api_servers(host: &dyn Host) -> Result<Vec<Peer>, Refusal> {
    let mut peers = Vec::new();
    for path in KUBECONFIGS {
        let config = text(host, path)?;
        let servers = config.lines().filter_map(|line| line.trim().strip_prefix("server:"));
        for (name, port) in servers.filter_map(server) {
            let addresses = match name.parse::<IpAddr>() {
                Ok(address) if !address.is_loopback() => BTreeSet::from([address]),
                _ => connected(host, port)?,
            };
            let detail = format!("{name}:{port}");
            peers.extend(addresses.into_iter().map(|address| Peer {
                carries: Carries::ApiServer,
                detail: detail.clone(),
                address,
            }));
        }
    }
    Ok(peers)
}

/// Host and port of `https://10.0.0.1:6443`.
fn server(url: &str) -> Option<(String, u16)> {
    let place = url.trim().trim_matches(['"', '\'']).strip_prefix("https://")?;
    let place = place.split('/').next()?;
    let (name, port) = match place.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            (name, port.parse().ok()?)
        }
        _ => (place, 443),
    };
    Some((name.trim_matches(['[', ']']).to_owned(), port))
}

/// Other ends of the established TCP connections of the host's namespace to this port.
fn connected(host: &dyn Host, port: u16) -> Result<BTreeSet<IpAddr>, Refusal> {
    let mut found = BTreeSet::new();
    for path in ["/proc/1/net/tcp", "/proc/1/net/tcp6"] {
        let table = text(host, path)?;
        let peers = table.lines().skip(1).filter_map(established);
        found.extend(peers.filter(|peer| peer.port() == port).map(|peer| peer.ip()));
    }
    found.retain(|address| !address.is_loopback());
    Ok(found)
}

/// The other end in a line of `/proc/net/tcp`; None unless established (net/ipv4/tcp_ipv4.c, get_tcp4_sock: the address
/// as words of the machine's own byte order, in hex).
fn established(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_whitespace().skip(2);
    let (remote, state) = (words.next()?, words.next()?);
    let (address, port) = remote.split_once(':')?;
    let word = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let bytes = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)).to_canonical()
        }
        _ => return None,
    };
    (state == "01").then_some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// Servers of mounted network file systems, by `/proc/mounts`: one for each type and address.
fn mounts(table: &str) -> Vec<Peer> {
    let mut servers: BTreeSet<(String, IpAddr)> = BTreeSet::new();
    for line in table.lines() {
        let mut words = line.split(' ');
        let (Some(source), Some(kind), Some(options)) = (words.next(), words.nth(1), words.next())
        else {
            continue;
        };
        servers.extend(addresses_of(kind, source, options).map(|at| (kind.to_owned(), at)));
    }
    let peer = |(kind, address): (String, IpAddr)| Peer {
        carries: Carries::NetworkMount,
        detail: format!("{kind} from {address}"),
        address,
    };
    servers.into_iter().map(peer).collect()
}

fn addresses_of<'a>(
    kind: &str,
    source: &'a str,
    options: &'a str,
) -> Box<dyn Iterator<Item = IpAddr> + 'a> {
    let option = |name: &'static str| {
        options.split(',').filter_map(move |o| o.strip_prefix(name)?.strip_prefix('='))
    };
    match kind {
        // The kernel shows the address that it talks to, whatever name was mounted (fs/nfs/super.c, nfs_show_mount_options;
        // fs/smb/client/cifsfs.c, cifs_show_address).
        "nfs" | "nfs4" | "cifs" | "smb3" => Box::new(option("addr").filter_map(|a| a.parse().ok())),
        // Monitors: `10.0.0.1:6789,10.0.0.2:6789:/`, or by the newer syntax in an option (fs/ceph/super.c).
        "ceph" => {
            let old = source.split(":/").next().unwrap_or_default().split(',');
            Box::new(option("mon_addr").flat_map(|all| all.split('/')).chain(old).filter_map(ip))
        }
        // `10.0.0.1@tcp:10.0.0.2@tcp:/scratch`, where o2ib is RDMA to the same address.
        "lustre" => {
            let servers = source.split(":/").next().unwrap_or_default().split([':', ',']);
            Box::new(servers.filter_map(|nid| nid.split('@').next()?.parse().ok()))
        }
        "fuse.glusterfs" | "glusterfs" => {
            Box::new(source.split(":/").next().and_then(|server| server.parse().ok()).into_iter())
        }
        _ => Box::new(std::iter::empty()),
    }
}

/// An address with or without a port.
fn ip(text: &str) -> Option<IpAddr> {
    text.parse::<SocketAddr>().map(|at| at.ip()).or_else(|_| text.parse()).ok()
}

/// drivers/scsi/scsi_transport_iscsi.c: `address` is where the connection is now, `persistent_address` where it was
/// asked for.
fn iscsi(host: &dyn Host) -> Result<Vec<Peer>, Refusal> {
    let class = "/sys/class/iscsi_connection";
    let mut peers = Vec::new();
    for name in list(host, class)? {
        let at = |attribute: &str| text(host, &format!("{class}/{name}/{attribute}"));
        let (now, asked) = (at("address")?, at("persistent_address")?);
        let Some(address) = now.parse().or_else(|_| asked.parse()).ok() else { continue };
        // connection1:0 is the first of session1.
        let number = name.trim_start_matches("connection").split(':').next().unwrap_or_default();
        let target = text(host, &format!("/sys/class/iscsi_session/session{number}/targetname"))?;
        let detail = format!("{target} at {address}");
        peers.push(Peer { carries: Carries::IscsiSession, detail, address });
    }
    Ok(peers)
}

/// drivers/nvme/host/sysfs.c: `address` is `traddr=10.0.0.7,trsvcid=4420` on fabrics.
fn nvme(host: &dyn Host) -> Result<Vec<Peer>, Refusal> {
    let class = "/sys/class/nvme";
    let mut peers = Vec::new();
    for name in list(host, class)? {
        let at = |attribute: &str| text(host, &format!("{class}/{name}/{attribute}"));
        let transport = at("transport")?;
        if !["tcp", "rdma"].contains(&transport.as_str()) {
            continue;
        }
        let place = at("address")?;
        let address = place.split(',').find_map(|part| part.strip_prefix("traddr="));
        let Some(address) = address.and_then(|text| text.parse().ok()) else { continue };
        let detail = format!("{} at {address} over {transport}", at("subsysnqn")?);
        peers.push(Peer { carries: Carries::NvmeSession, detail, address });
    }
    Ok(peers)
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
mod tests;
