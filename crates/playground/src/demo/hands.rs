//! A person at the machines: what no API can do. Stories use it where a machine has to be mended; nothing else does.

use crate::cluster::cluster::Cluster;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone)]
pub struct Hands(pub(crate) Arc<Mutex<Cluster>>);

impl Hands {
    /// Takes away whatever is wrong with a machine.
    pub fn mend(&self, node: &str) {
        let cluster = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = cluster.nodes.get(node) {
            slot.kubelet.host.machine().faults.clear();
        }
    }
}

impl fmt::Debug for Hands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hands")
    }
}
