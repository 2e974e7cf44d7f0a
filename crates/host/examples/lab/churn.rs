//! A look at the RDMA devices while one of them goes to a pod and comes back, again and again.

use super::bench::{Done, HOME, said, set_vfs, soft_device, vf};
use super::pod::Pod;
use super::report::Outcome;
use super::support::rdma_list;
use api::PciAddress;
use host::linux::LinuxHost;
use host::seam::{Host, Namespace, RdmaChange};
use std::sync::atomic::{AtomicBool, Ordering};

/// So often the device goes away and comes back.
const MOVES: u32 = 60;
/// Each has an RDMA device.
const VFS: u32 = 5;

/// The devices behind the one that moves are seen in every look: the kernel's list alone leaves one of them out where the
/// first leaves in its middle.
pub fn run(host: &LinuxHost, pf: PciAddress) -> Outcome {
    set_vfs(host, pf, &VFS.to_string())?;
    for index in 0..VFS {
        soft_device(host, vf(host, pf, index)?);
    }
    let mut indexes: Vec<u32> =
        said("devices", host.rdma_devices(&HOME))?.iter().map(|device| device.index).collect();
    indexes.sort_unstable();
    let (first, stay) = indexes.split_first().ok_or("no RDMA device")?;
    let pod = Pod::start("churn");
    let outcome = look_while(host, *first, stay, &pod.namespace());
    set_vfs(host, pf, "0")?;
    outcome
}

fn look_while(host: &LinuxHost, first: u32, stay: &[u32], pod: &Namespace) -> Outcome {
    let done = AtomicBool::new(false);
    let (mut looks, mut short) = (0_u32, 0_u32);
    let missing = |found: &[u32]| stay.iter().copied().find(|index| !found.contains(index));
    std::thread::scope(|scope| {
        let mover = scope.spawn(|| {
            let moved = there_and_back(host, first, pod);
            done.store(true, Ordering::Release);
            moved
        });
        while !done.load(Ordering::Acquire) {
            short += u32::from(missing(&rdma_list()).is_some());
            let found = said("devices", host.rdma_devices(&HOME))?;
            let found: Vec<u32> = found.iter().map(|device| device.index).collect();
            looks += 1;
            if let Some(lost) = missing(&found) {
                return Err(format!("look {looks} has no device {lost}: {found:?}"));
            }
        }
        mover.join().map_err(|_| "the mover died".to_owned())?
    })?;
    if short == 0 {
        return Err(format!("the kernel's own list was whole {looks} times: nothing is proved"));
    }
    Ok(format!(
        "{looks} looks while a device went {MOVES} times to a pod and back: none missed one of the other {}; the \
         kernel's own list left one out {short} times of {looks}, and did not say so",
        stay.len()
    ))
}

fn there_and_back(host: &LinuxHost, device: u32, pod: &Namespace) -> Done {
    for _ in 0..MOVES {
        let there = RdmaChange::Move { device, to: pod.clone() };
        said("there", host.change_rdma(&HOME, &there))?;
        let back = RdmaChange::Move { device, to: Namespace::Host };
        said("back", host.change_rdma(pod, &back))?;
    }
    Ok(())
}
