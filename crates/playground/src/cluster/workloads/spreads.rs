//! Where each DaemonSet wants its pods, kept until the set or a node's labels or taints change: a set is looked at for
//! each change of each of its pods.

use crate::cluster::objects::{name, number, uid};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Default)]
pub struct Spreads {
    /// By uid of the set.
    wanted: BTreeMap<String, Wanted>,
}

/// What a generation of a set comes to.
#[derive(Debug)]
pub struct Wanted {
    generation: i64,
    /// The name of its pod template.
    pub revision: String,
    /// Names of nodes, in order.
    pub nodes: Vec<String>,
}

impl Spreads {
    /// Nodes came, went, or are other ones to a selector or a toleration now.
    pub fn forget(&mut self) {
        self.wanted.clear();
    }

    pub fn of(&mut self, set: &Value, nodes: &[Arc<Value>]) -> &Wanted {
        let generation = number(set, "/metadata/generation");
        let known = self.wanted.entry(uid(set).to_owned()).or_insert_with(|| Wanted {
            generation: -1,
            revision: String::new(),
            nodes: Vec::new(),
        });
        if known.generation != generation {
            let probe = json!({ "spec": set["spec"]["template"]["spec"] });
            let wanted = nodes.iter().filter(|node| super::belongs(&probe, node));
            *known = Wanted {
                generation,
                revision: super::revision(set),
                nodes: wanted.map(|node| name(node).to_owned()).collect(),
            };
        }
        known
    }
}
