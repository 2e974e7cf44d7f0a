//! What the kernel alone needs for a card's VFs, with nobody asking but one write: what the way from policy to offer is
//! measured against.

use super::machine;
use api::PciAddress;
use host::linux::LinuxHost;
use host::seam::Interest;
use host::{Host, home};
use std::time::{Duration, Instant};

/// From the write of the count to an interface and an RDMA device on each VF; the card is left as it was.
pub fn time(host: &LinuxHost, pf: &PciAddress, vfs: u32) -> Duration {
    let begun = Instant::now();
    host.write(&pf.file("sriov_numvfs"), &vfs.to_string()).unwrap();
    for index in 0..vfs {
        let vf = host::function::vf(host, pf, index).unwrap();
        while home::interface_at_home(host, &vf).unwrap().is_none() {
            host.wait(&[Interest::Link], Duration::from_millis(200));
        }
    }
    machine::drivers(host, pf);
    let taken = begun.elapsed();
    host.write(&pf.file("sriov_numvfs"), "0").unwrap();
    taken
}
