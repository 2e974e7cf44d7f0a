//! What is wrong between objects although each is right by itself: said before a pod fails, with the way out.
//!
//! Nothing here stops anything: policies are merged and networks rendered all the same. Each problem names the object
//! that has to be changed; many nodes with one problem are one sentence.

use crate::blocker::{self, on_nodes};
use crate::lifeline;
use crate::merge::{self, ModeWish};
use crate::policy::Policy;
use crate::pools::{self, Membership};
use crate::reason::{Problem, Reason};
use crate::render::Rendered;
use crate::select::{self, NodeFacts};
use api::pool::SriovNetworkPoolConfig;
use api::{RdmaMode, VfRange};
use std::collections::BTreeMap;

/// The cluster, as far as objects can be at odds in it.
#[derive(Debug, Clone, Copy)]
pub struct Cluster<'a> {
    /// Managed nodes.
    pub nodes: &'a [NodeView<'a>],
    /// Sorted as `policy::parse_all` returns them.
    pub policies: &'a [Policy],
    pub pools: &'a [SriovNetworkPoolConfig],
    /// Networks that could be rendered, by the label of `render::Network`, oldest first.
    pub networks: &'a [(String, Rendered)],
    pub prefix: &'a str,
}

/// One managed node.
#[derive(Debug, Clone, Copy)]
pub struct NodeView<'a> {
    pub facts: NodeFacts<'a>,
    /// The effective RDMA mode that its daemon reported.
    pub mode: Option<RdmaMode>,
}

/// Everything found, by object: `policy train`, `SriovNetwork default/rdma-network`.
pub fn find(cluster: &Cluster<'_>) -> Vec<Problem> {
    let mut problems = vec![];
    let mut matches: Vec<Vec<Match<'_>>> = vec![vec![]; cluster.policies.len()];
    let mut rivals = Rivals::default();
    for node in cluster.nodes {
        let of_node = matches_on(cluster, node);
        rivals.find(cluster, &of_node);
        of_node.into_iter().for_each(|found| matches[found.policy].push(found));
    }
    problems.extend(nothing_selected(cluster, &matches));
    problems.extend(too_many_vfs(cluster, &matches));
    let facts = cluster.nodes.iter().map(|node| &node.facts);
    problems.extend(lifeline::cluster::problems(facts, cluster.policies));
    problems.extend(rivals.problems(cluster));
    problems.extend(topology_differs(cluster));
    problems.extend(mixed_modes(cluster, &matches));
    problems.extend(one_target(cluster.networks));
    for (label, network) in cluster.networks {
        let nodes = nodes_of(cluster, network, &matches);
        problems.extend(not_offered(cluster, label, network));
        problems.extend(shared_addresses(label, network, &nodes));
        problems.extend(mode_of_network(cluster, label, network, &nodes, &matches));
    }
    problems
}

/// A policy on one PF of one node.
#[derive(Debug, Clone, Copy)]
struct Match<'a> {
    /// Index into the policies: a higher one is stronger.
    policy: usize,
    node: &'a NodeView<'a>,
    interface: &'a api::nodestate::InterfaceStatus,
    /// `None`: the whole PF.
    range: Option<VfRange>,
}

fn matches_on<'a>(cluster: &Cluster<'a>, node: &'a NodeView<'a>) -> Vec<Match<'a>> {
    let mut matches = vec![];
    for (index, policy) in cluster.policies.iter().enumerate() {
        if select::node(policy, node.facts.labels).is_err() {
            continue;
        }
        for interface in node.facts.interfaces {
            if select::interface(&policy.nics, interface).is_ok() {
                let range = select::range(policy, interface);
                matches.push(Match { policy: index, node, interface, range });
            }
        }
    }
    matches
}

fn policy_problem(reason: Reason, policy: &Policy, message: String) -> Problem {
    Problem::new(reason, &format!("policy {}", policy.name), message)
}

fn nothing_selected(cluster: &Cluster<'_>, matches: &[Vec<Match<'_>>]) -> Vec<Problem> {
    let facts: Vec<NodeFacts<'_>> = cluster.nodes.iter().map(|node| node.facts).collect();
    let idle = cluster.policies.iter().zip(matches).filter(|(_, matches)| matches.is_empty());
    idle.map(|(policy, _)| {
        let selection = select::select(policy, &facts);
        let what = match selection.selected_nodes {
            0 => "its nodeSelector takes none of the managed nodes".to_owned(),
            nodes => format!("its nicSelector takes no PF of the {nodes} selected nodes"),
        };
        let nearest = selection.near_misses.first().map(|miss| {
            let of = if miss.interface.is_empty() { "" } else { " of " };
            format!("; nearest: {}{of}{}: {}", miss.interface, miss.node, miss.because)
        });
        let message = format!("{what}{}", nearest.unwrap_or_default());
        policy_problem(Reason::NothingSelected, policy, message)
    })
    .collect()
}

fn too_many_vfs(cluster: &Cluster<'_>, matches: &[Vec<Match<'_>>]) -> Vec<Problem> {
    let mut problems = vec![];
    for (policy, matches) in cluster.policies.iter().zip(matches) {
        let over = |found: &&Match<'_>| {
            let total = found.interface.total_vfs;
            !policy.externally_managed && total > 0 && total < i64::from(policy.num_vfs)
        };
        let over: Vec<&Match<'_>> = matches.iter().filter(over).collect();
        if let Some(first) = over.first() {
            let allowed = first.interface.total_vfs;
            let message = format!(
                "numVfs {} is more than {} on {} allows, which is {allowed}; ask for fewer or raise the number in firmware",
                policy.num_vfs,
                first.interface.name,
                on_nodes(over.iter().map(|found| found.node.facts.name)),
            );
            problems.push(policy_problem(Reason::VfLimit, policy, message));
        }
    }
    problems
}

/// Two policies on one PF: VFs that both claim, and settings of the PF that cannot be had twice.
///
/// (weaker policy, stronger policy, sentence without the nodes) → nodes.
#[derive(Default)]
struct Rivals<'a>(BTreeMap<(usize, usize, String), Vec<&'a str>>);

impl<'a> Rivals<'a> {
    /// Takes note of one node's matches, which are in the order of policies.
    fn find(&mut self, cluster: &Cluster<'_>, of_node: &[Match<'a>]) {
        for (at, strong) in of_node.iter().enumerate() {
            let same = |weak: &&Match<'_>| {
                weak.interface.pci_address == strong.interface.pci_address
                    && weak.policy != strong.policy
            };
            for weak in of_node[..at].iter().filter(same) {
                for sentence in at_odds(cluster, weak, strong) {
                    let key = (weak.policy, strong.policy, sentence);
                    self.0.entry(key).or_default().push(weak.node.facts.name);
                }
            }
        }
    }

    fn problems(self, cluster: &Cluster<'_>) -> Vec<Problem> {
        let problem = |((weaker, _, sentence), nodes): ((usize, usize, String), Vec<&str>)| {
            let message = format!("{sentence}; on {}", on_nodes(nodes.into_iter()));
            policy_problem(Reason::Conflict, &cluster.policies[weaker], message)
        };
        self.0.into_iter().map(problem).collect()
    }
}

fn at_odds(cluster: &Cluster<'_>, one: &Match<'_>, other: &Match<'_>) -> Vec<String> {
    let (weak, strong) = (&cluster.policies[one.policy], &cluster.policies[other.policy]);
    let name = &one.interface.name;
    let why = match weak.priority == strong.priority {
        true => format!("both have priority {} and the later name wins", weak.priority),
        false => format!("priority {} wins over {}", strong.priority, weak.priority),
    };
    let mut sentences = vec![];
    let (theirs, way_out) = (&strong.name, "take it out of one of them");
    match (one.range, other.range) {
        (Some(range), Some(claimed)) if range.overlaps(&claimed) => {
            let free = free_range(claimed, weak.num_vfs.max(strong.num_vfs));
            let way_out = match free {
                Some(free) => format!("write ranges that do not overlap, here for example {name}#{free}"),
                None => "no VF is left: raise numVfs and write ranges in both".to_owned(),
            };
            sentences.push(format!(
                "VFs {range} of {name} overlap with {claimed} of policy {theirs}: {why}, and this policy gets none of them; {way_out}"
            ));
        }
        (None, None) => sentences.push(format!(
            "{name} is offered as a whole here and by policy {theirs}: {why}; {way_out}"
        )),
        (None, Some(_)) => sentences.push(format!(
            "{name} is offered as a whole here and cut into VFs by policy {theirs}: {why}; {way_out}"
        )),
        (Some(_), None) => sentences.push(format!(
            "{name} is cut into VFs here and offered as a whole by policy {theirs}: {why}; {way_out}"
        )),
        (Some(_), Some(_)) => {}
    }
    if weak.externally_managed != strong.externally_managed {
        sentences.push(format!(
            "externallyManaged is {} here and {} in policy {} for {name}: {why}; write the same in both",
            weak.externally_managed, strong.externally_managed, strong.name
        ));
    }
    if weak.eswitch != strong.eswitch {
        sentences.push(format!(
            "eSwitchMode is {} here and {} in policy {} for {name}: {why}; write the same in both",
            weak.eswitch, strong.eswitch, strong.name
        ));
    }
    sentences
}

/// VFs below, or else above, those that are claimed.
fn free_range(claimed: VfRange, num_vfs: u32) -> Option<VfRange> {
    match (claimed.first.checked_sub(1), claimed.last + 1 < num_vfs) {
        (Some(last), _) => Some(VfRange { first: 0, last }),
        (None, true) => Some(VfRange { first: claimed.last + 1, last: num_vfs - 1 }),
        (None, false) => None,
    }
}

/// One resource cannot both give and not give NUMA hints.
fn topology_differs(cluster: &Cluster<'_>) -> Vec<Problem> {
    let mut problems = vec![];
    for (index, policy) in cluster.policies.iter().enumerate() {
        let differs = |other: &&Policy| {
            other.resource == policy.resource && other.exclude_topology != policy.exclude_topology
        };
        if let Some(other) = cluster.policies[..index].iter().find(differs) {
            let message = format!(
                "excludeTopology is {} here and {} in policy {} for the same resource {}; write the same in both",
                policy.exclude_topology, other.exclude_topology, other.name, policy.resource
            );
            problems.push(policy_problem(Reason::Conflict, policy, message));
        }
    }
    problems
}

/// Pods of an RDMA resource land on any of its nodes, so these must agree on the mode.
fn mixed_modes(cluster: &Cluster<'_>, matches: &[Vec<Match<'_>>]) -> Vec<Problem> {
    let mut problems = vec![];
    for (policy, matches) in cluster.policies.iter().zip(matches).filter(|(policy, _)| policy.rdma)
    {
        let mut by_mode: BTreeMap<RdmaMode, Vec<&NodeView<'_>>> = BTreeMap::new();
        for found in matches {
            let nodes = by_mode.entry(wanted_mode(cluster, found.node)).or_default();
            if nodes.last().is_none_or(|last| last.facts.name != found.node.facts.name) {
                nodes.push(found.node);
            }
        }
        if let (Some(shared), Some(exclusive)) =
            (by_mode.get(&RdmaMode::Shared), by_mode.get(&RdmaMode::Exclusive))
        {
            let message = format!(
                "its nodes do not have one RDMA mode: {} exclusive, {} shared ({}); a pod may land on any of them, so select all in one pool or narrow the nodeSelector",
                are(exclusive),
                are(shared),
                pool_of(cluster, shared[0]),
            );
            problems.push(policy_problem(Reason::RdmaModeMismatch, policy, message));
        }
    }
    problems
}

/// Networks that write one NetworkAttachmentDefinition: the first keeps it.
fn one_target(networks: &[(String, Rendered)]) -> Vec<Problem> {
    let mut first: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    let mut problems = vec![];
    for (label, network) in networks {
        let target = (network.namespace.as_str(), network.name.as_str());
        match first.get(&target) {
            None => {
                first.insert(target, label);
            }
            Some(owner) => {
                let (namespace, name) = target;
                let message = format!(
                    "the NetworkAttachmentDefinition {namespace}/{name} belongs to {owner} already; rename one of the two"
                );
                problems.push(Problem::new(Reason::Conflict, label, message));
            }
        }
    }
    problems
}

/// Pods of a network whose resource nobody makes stay pending, mostly for a slip of the pen.
fn not_offered(cluster: &Cluster<'_>, label: &str, network: &Rendered) -> Option<Problem> {
    let full = |policy: &Policy| format!("{}/{}", cluster.prefix, policy.resource);
    if cluster.policies.iter().any(|policy| full(policy) == network.resource) {
        return None;
    }
    let mut known: Vec<String> = cluster.policies.iter().map(|p| p.resource.clone()).collect();
    known.sort();
    known.dedup();
    let way_out = match known.is_empty() {
        true => "create one".to_owned(),
        false => format!("create one, or write one of {}", blocker::list(&known)),
    };
    let name = network.resource.trim_start_matches(cluster.prefix).trim_start_matches('/');
    let message = format!("no policy has its resourceName {name:?}; {way_out}");
    Some(Problem::new(Reason::ResourceNotOffered, label, message))
}

/// Nodes that have the resource of a network, each once.
fn nodes_of<'a>(
    cluster: &Cluster<'_>,
    network: &Rendered,
    matches: &[Vec<Match<'a>>],
) -> Vec<&'a NodeView<'a>> {
    let mut nodes: BTreeMap<&str, &NodeView<'_>> = BTreeMap::new();
    for (policy, matches) in cluster.policies.iter().zip(matches) {
        if format!("{}/{}", cluster.prefix, policy.resource) == network.resource {
            nodes.extend(matches.iter().map(|found| (found.node.facts.name, found.node)));
        }
    }
    nodes.into_values().collect()
}

/// `host-local` keeps its books on each node, and `static` keeps none: on two nodes the same address is given twice.
fn shared_addresses(label: &str, network: &Rendered, nodes: &[&NodeView<'_>]) -> Option<Problem> {
    let kind = network.ipam.get("type").and_then(serde_json::Value::as_str)?;
    if !matches!(kind, "host-local" | "static") || nodes.len() < 2 {
        return None;
    }
    let message = format!(
        "ipam {kind} gives the same addresses on each of {} nodes ({}); use whereabouts or nv-ipam, or one network with a range of its own per node",
        nodes.len(),
        on_nodes(nodes.iter().map(|node| node.facts.name)),
    );
    Some(Problem::new(Reason::AddressRangeShared, label, message))
}

/// The rdma plugin moves an RDMA device, which the kernel allows in exclusive mode only; without it a pod in exclusive
/// mode has no RDMA device at all.
fn mode_of_network(
    cluster: &Cluster<'_>,
    label: &str,
    network: &Rendered,
    nodes: &[&NodeView<'_>],
    matches: &[Vec<Match<'_>>],
) -> Option<Problem> {
    let wrong = match network.takes_rdma_device {
        true => RdmaMode::Shared,
        false => RdmaMode::Exclusive,
    };
    let of_mode: Vec<&NodeView<'_>> =
        nodes.iter().copied().filter(|node| wanted_mode(cluster, node) == wrong).collect();
    let first = of_mode.first()?;
    let rdma = cluster.policies.iter().zip(matches).any(|(policy, matches)| {
        policy.rdma
            && !matches.is_empty()
            && format!("{}/{}", cluster.prefix, policy.resource) == network.resource
    });
    let names = on_nodes(of_mode.iter().map(|node| node.facts.name));
    let pool = pool_of(cluster, first);
    let message = match network.takes_rdma_device {
        true => format!(
            "its rdma plugin needs RDMA mode exclusive, and {names} {} shared ({pool}); set rdmaMode: exclusive in a pool of these nodes, or take the plugin out",
            has(of_mode.len()),
        ),
        // Plain Ethernet networks over an exclusive node are fine.
        false if !rdma => return None,
        false => format!(
            "its pods get no RDMA device: {names} {} RDMA mode exclusive ({pool}) and metaPlugins has no rdma plugin; write metaPlugins: '{{\"type\": \"rdma\"}}'",
            has(of_mode.len()),
        ),
    };
    Some(Problem::new(Reason::RdmaModeMismatch, label, message))
}

/// The mode that a node is to have: its pool's, else the one that it has, else the kernel's default.
fn wanted_mode(cluster: &Cluster<'_>, node: &NodeView<'_>) -> RdmaMode {
    let asked = match merge::mode_wish(node.facts.labels, cluster.pools) {
        ModeWish::Is(mode) => mode,
        ModeWish::Keep => None,
    };
    asked.or(node.mode).unwrap_or(RdmaMode::Shared)
}

fn pool_of(cluster: &Cluster<'_>, node: &NodeView<'_>) -> String {
    match pools::membership(node.facts.labels, cluster.pools) {
        Membership::NoPool => format!("{} is in no pool", node.facts.name),
        Membership::Pool(pool) => format!("pool {pool}"),
        Membership::Several(pools) => {
            format!("{} is in pools {}", node.facts.name, pools.join(" and "))
        }
    }
}

fn are(nodes: &[&NodeView<'_>]) -> String {
    let names = on_nodes(nodes.iter().map(|node| node.facts.name));
    format!("{names} {}", if nodes.len() == 1 { "is" } else { "are" })
}

fn has(count: usize) -> &'static str {
    if count == 1 { "has" } else { "have" }
}
