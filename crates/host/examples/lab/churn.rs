//! A look at the RDMA devices while one of them goes to a pod and comes back, again and again.

use super::bench::{Done, HOME, said, set_vfs, soft_device, vf};
use super::pod::Pod;
use super::report::Outcome;
use super::support::rdma_list;
use api::PciAddress;
use host::linux::LinuxHost;
use host::seam::{Host, Namespace, RdmaChange};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// So often the device goes away and comes back: at least, and at most until the kernel's own list has left one out.
const MOVES: (u32, u32) = (60, 900);
/// So often the kernel's own list is asked for before each look.
const LISTS: usize = 8;
/// Each has an RDMA device.
const VFS: u32 = 5;

/// The devices behind the one that moves are seen in every look, and each once: the kernel's list alone leaves one of them
/// out where the first leaves in its middle, and tells one twice where it comes.
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
    let (moves, proved) = (AtomicU32::new(0), AtomicBool::new(false));
    let (mut looks, mut short, mut doubled) = (0_usize, 0_usize, 0_usize);
    let missing = |found: &[u32]| stay.iter().copied().find(|index| !found.contains(index));
    let twice = |found: &[u32]| (1..found.len()).any(|at| found[..at].contains(&found[at]));
    std::thread::scope(|scope| {
        let mover = scope.spawn(|| {
            while !proved.load(Ordering::Acquire) && moves.load(Ordering::Acquire) < MOVES.1 {
                there_and_back(host, first, pod)?;
                moves.fetch_add(1, Ordering::Release);
            }
            Ok::<_, String>(())
        });
        while !mover.is_finished() {
            for list in (0..LISTS).map(|_| rdma_list()) {
                short += usize::from(missing(&list).is_some());
                doubled += usize::from(twice(&list));
            }
            let found = said("devices", host.rdma_devices(&HOME));
            let found = found.map(|all| all.iter().map(|device| device.index).collect::<Vec<_>>());
            looks += 1;
            let lost = found.as_deref().map(missing);
            let is_enough = short > 0 && moves.load(Ordering::Acquire) >= MOVES.0;
            proved.store(is_enough || lost != Ok(None), Ordering::Release);
            if lost != Ok(None) {
                return Err(format!("look {looks} has not all of {stay:?}: {found:?}"));
            }
            if found.as_deref().is_ok_and(twice) {
                return Err(format!("look {looks} has one twice: {found:?}"));
            }
        }
        mover.join().map_err(|_| "the mover died".to_owned())?
    })?;
    let (moves, lists) = (moves.into_inner(), looks * LISTS);
    if short == 0 {
        return Err(format!("the kernel's own list was whole {lists} times: nothing is proved"));
    }
    Ok(format!(
        "{looks} looks while a device went {moves} times to a pod and back: none missed one of the other {}, or \
         told one twice; the kernel's own list left one out {short} times of {lists} and told one twice {doubled} \
         times, and did not say so",
        stay.len()
    ))
}

fn there_and_back(host: &LinuxHost, device: u32, pod: &Namespace) -> Done {
    let there = RdmaChange::Move { device, to: pod.clone() };
    said("there", host.change_rdma(&HOME, &there))?;
    let back = RdmaChange::Move { device, to: Namespace::Host };
    said("back", host.change_rdma(pod, &back))
}
