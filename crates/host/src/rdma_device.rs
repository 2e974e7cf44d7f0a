//! The RDMA device of a PCI function, and its moves between namespaces.

use crate::home::rdma_devices_at_home;
use crate::seam::{Changed, Host, Lock, Namespace, RdmaChange, RdmaDevice, Refusal};
use crate::tried::in_words;
use api::{PciAddress, RdmaMode, files};
use rustix::io::Errno;
use std::time::Duration;
use thiserror::Error;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RdmaDeviceError {
    #[error("{pci} has no RDMA device that the host's namespace sees")]
    None { pci: PciAddress },
    #[error("{pci} has {count} RDMA devices ({names}), and one is expected")]
    Several { pci: PciAddress, count: usize, names: String },
    #[error("RDMA device {index} is not in {from}")]
    NotThere { index: u32, from: String },
    #[error(
        "cannot move {name} {way}: the RDMA mode is shared; set rdmaMode: exclusive in the node's pool"
    )]
    SharedMode { name: String, way: String },
    #[error("cannot move {name} {way}: its driver cannot move RDMA devices")]
    CannotMove { name: String, way: String },
    #[error("cannot move {name} {way}: {refusal}")]
    Refused { name: String, way: String, refusal: Refusal },
    #[error("{name} is not in {to} after it was moved there")]
    NotMoved { name: String, to: String },
    #[error("cannot {0}")]
    Unreadable(Refusal),
}

impl From<Refusal> for RdmaDeviceError {
    fn from(refusal: Refusal) -> Self {
        Self::Unreadable(refusal)
    }
}

/// The one RDMA device of a function, while the host's namespace sees it.
pub fn of(host: &dyn Host, pci: &PciAddress) -> Result<RdmaDevice, RdmaDeviceError> {
    let mut devices = rdma_devices_at_home(host, &pci.to_string())?;
    let device = devices.pop().ok_or(RdmaDeviceError::None { pci: *pci })?;
    if devices.is_empty() {
        return Ok(device);
    }
    let names: Vec<String> =
        devices.into_iter().chain([device]).map(|device| device.name).collect();
    Err(RdmaDeviceError::Several { pci: *pci, count: names.len(), names: names.join(", ") })
}

/// Moves a device by its index, which a rename inside a pod does not change. One that is there already is left alone.
/// The caller holds `lock_moves`: moves take uverbs numbers from each other.
pub fn relocate(
    host: &dyn Host,
    index: u32,
    from: &Namespace,
    to: &Namespace,
) -> Result<Changed, RdmaDeviceError> {
    let seen = |space: &Namespace| -> Result<Option<RdmaDevice>, Refusal> {
        Ok(host.rdma_devices(space)?.into_iter().find(|device| device.index == index))
    };
    let Some(device) = seen(from)? else {
        return match seen(to)? {
            Some(_) => Ok(Changed::AlreadyRight),
            None => Err(RdmaDeviceError::NotThere { index, from: in_words(from) }),
        };
    };
    let name = device.name;
    let moved = host.change_rdma(from, &RdmaChange::Move { device: index, to: to.clone() });
    moved.map_err(|refusal| {
        let (name, way) = (name.clone(), format!("from {} to {}", in_words(from), in_words(to)));
        match refusal.errno {
            Errno::OPNOTSUPP if host.rdma_mode() == Ok(RdmaMode::Shared) => {
                RdmaDeviceError::SharedMode { name, way }
            }
            Errno::OPNOTSUPP => RdmaDeviceError::CannotMove { name, way },
            _ => RdmaDeviceError::Refused { name, way, refusal },
        }
    })?;
    match seen(to)? {
        Some(_) => Ok(Changed::Yes),
        None => Err(RdmaDeviceError::NotMoved { name, to: in_words(to) }),
    }
}

/// The node-wide lock of RDMA moves, shared with upstream's `ib-sriov`.
pub fn lock_moves(host: &dyn Host, timeout: Duration) -> Result<Lock, Refusal> {
    host.lock(files::RDMA_LOCK, timeout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Fault, Machine};
    use crate::testing::{self, worker_with_vfs};
    use expect_test::expect;

    fn vf() -> PciAddress {
        "0000:03:00.2".parse().unwrap()
    }

    fn pod() -> Namespace {
        Namespace::At("/var/run/netns/a".to_owned())
    }

    fn with_pod(mode: RdmaMode) -> Machine {
        let mut machine = worker_with_vfs(2);
        machine.rdma.mode = Some(mode);
        machine.create_namespace("/var/run/netns/a").unwrap();
        machine
    }

    fn into_pod(host: &dyn Host) -> Result<Changed, RdmaDeviceError> {
        relocate(host, 6, &Namespace::Host, &pod())
    }

    #[test]
    fn a_device_moves_by_index_and_once() {
        let machine = with_pod(RdmaMode::Exclusive);
        assert_eq!(of(&crate::sim::SimHost::new(machine.clone()), &vf()).unwrap().index, 6);
        let out = testing::run_twice(machine, into_pod);
        expect![[r#"
            Yes
                move mlx5_4 to namespace /var/run/netns/a
            AlreadyRight
        "#]]
        .assert_eq(&out);
    }

    #[test]
    fn what_cannot_move_is_said_with_the_way_out() {
        let mut out = testing::run(with_pod(RdmaMode::Shared), into_pod);
        out.push_str(&testing::run(
            with_pod(RdmaMode::Exclusive).with(Fault::RdmaMoveUnsupported),
            into_pod,
        ));
        out.push_str(&testing::run(with_pod(RdmaMode::Exclusive), |host| {
            relocate(host, 99, &Namespace::Host, &pod())
        }));
        let gone = Namespace::At("/var/run/netns/gone".to_owned());
        out.push_str(&testing::run(with_pod(RdmaMode::Exclusive), |host| {
            relocate(host, 6, &Namespace::Host, &gone)
        }));
        out.push_str(&testing::run(with_pod(RdmaMode::Exclusive), |host| {
            of(host, &"0000:07:00.0".parse().unwrap()).map(|_| Changed::Yes)
        }));
        expect![[r#"
            cannot move mlx5_4 from the host's namespace to namespace /var/run/netns/a: the RDMA mode is shared; set rdmaMode: exclusive in the node's pool
                move mlx5_4 to namespace /var/run/netns/a: operation not supported
            cannot move mlx5_4 from the host's namespace to namespace /var/run/netns/a: its driver cannot move RDMA devices
                move mlx5_4 to namespace /var/run/netns/a: operation not supported
            RDMA device 99 is not in the host's namespace
            cannot move mlx5_4 from the host's namespace to namespace /var/run/netns/gone: move rdma device 6 to namespace /var/run/netns/gone from the host's namespace: no such file or directory
            0000:07:00.0 has no RDMA device that the host's namespace sees
        "#]].assert_eq(&out);
    }

    #[test]
    fn from_every_crash_the_next_run_reaches_the_goal() {
        testing::crash_everywhere(with_pod(RdmaMode::Exclusive), into_pod);
    }
}
