//! Which pool a node is in, and how many of its nodes may be disturbed at a time.
//!
//! A node in two pools belongs to neither: it waits, and both say so. Pools that only name an OpenShift machine-config
//! pool (`ovsHardwareOffloadConfig`) have no members, as upstream.

use crate::reason::{Problem, Reason};
use api::RdmaMode;
use api::crd::{LabelExpression, LabelSelector};
use api::pool::{PoolSpec, SriovNetworkPoolConfig};
use api::primitives::IntOrString;
use std::collections::BTreeMap;

/// Where a node belongs. The order of the variants is of no meaning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Membership {
    /// One node at a time, among all nodes without a pool.
    NoPool,
    Pool(String),
    /// Names of the pools, in order.
    Several(Vec<String>),
}

/// How many nodes of a pool may be disturbed at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limit {
    Nodes(usize),
    /// `maxUnavailable: 0`.
    Paused,
    /// What was written cannot be understood; nothing is disturbed until it can. The text says what to write.
    Invalid(String),
}

impl Limit {
    /// The number of nodes; none while paused or invalid.
    pub fn nodes(&self) -> usize {
        match self {
            Self::Nodes(nodes) => *nodes,
            Self::Paused | Self::Invalid(_) => 0,
        }
    }
}

/// `maxUnavailable` for a pool of this many nodes.
///
/// Absent means 1 (upstream: all at once). A percentage is rounded down, as upstream, but one above 0 allows at least
/// one node, where upstream never drains a small pool.
pub fn limit(max_unavailable: Option<&IntOrString>, nodes: usize) -> Limit {
    let invalid = |text: &str| {
        Limit::Invalid(format!(
            "maxUnavailable {text} is no limit; write a number of nodes, or a percentage from 1% to 100%"
        ))
    };
    let allowed = match max_unavailable {
        None => return Limit::Nodes(1),
        Some(IntOrString::Int(number)) => match usize::try_from(*number) {
            Ok(number) => number,
            Err(_) => return invalid(&number.to_string()),
        },
        Some(IntOrString::String(text)) => {
            let percent = text.strip_suffix('%').and_then(|number| number.parse::<usize>().ok());
            match percent {
                Some(0) => 0,
                Some(percent @ 1..=100) => (nodes * percent / 100).max(1),
                _ => return invalid(&format!("{text:?}")),
            }
        }
    };
    match allowed {
        0 => Limit::Paused,
        allowed => Limit::Nodes(allowed),
    }
}

/// True when the pool has members at all.
pub fn has_members(spec: &PoolSpec) -> bool {
    spec.ovs_hardware_offload_config.is_empty()
}

/// The pools that select a node with these labels.
pub fn membership(
    labels: &BTreeMap<String, String>,
    pools: &[SriovNetworkPoolConfig],
) -> Membership {
    let mut names: Vec<String> = pools
        .iter()
        .filter(|pool| has_members(&pool.spec) && selects(pool.spec.node_selector.as_ref(), labels))
        .map(|pool| pool.metadata.name.clone())
        .collect();
    names.sort();
    match names.len() {
        0 => Membership::NoPool,
        1 => Membership::Pool(names.remove(0)),
        _ => Membership::Several(names),
    }
}

/// Label selector against labels, as Kubernetes defines it; absent or empty selects everything.
///
/// An expression with an unknown operator selects nothing: the API server refuses it, and guessing could reboot nodes.
pub fn selects(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = selector else { return true };
    let equal = selector.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value));
    equal && selector.match_expressions.iter().all(|expression| holds(expression, labels))
}

fn holds(expression: &LabelExpression, labels: &BTreeMap<String, String>) -> bool {
    let found = labels.get(&expression.key);
    let listed = found.is_some_and(|value| expression.values.contains(value));
    match expression.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        _ => false,
    }
}

/// The mode that a pool asks for, or what is wrong with the pool.
pub fn rdma_mode(pool: &SriovNetworkPoolConfig) -> Result<Option<RdmaMode>, Problem> {
    match pool.spec.rdma_mode.as_str() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|message: String| {
            let object = format!("pool {}", pool.metadata.name);
            Problem::new(Reason::InvalidPool, &object, format!("rdmaMode {message}"))
        }),
    }
}

/// Everything wrong with a pool by itself.
pub fn problems(pool: &SriovNetworkPoolConfig) -> Vec<Problem> {
    let object = format!("pool {}", pool.metadata.name);
    let invalid = |message: String| Problem::new(Reason::InvalidPool, &object, message);
    let mut problems: Vec<Problem> = rdma_mode(pool).err().into_iter().collect();
    if let Limit::Invalid(message) = limit(pool.spec.max_unavailable.as_ref(), 1) {
        problems.push(invalid(message));
    }
    problems.extend(crate::deadline::problems(pool));
    problems.extend(crate::waves::problems(pool));
    let expressions = pool.spec.node_selector.iter().flat_map(|s| &s.match_expressions);
    for expression in expressions {
        let operator = &expression.operator;
        if !["In", "NotIn", "Exists", "DoesNotExist"].contains(&operator.as_str()) {
            problems.push(invalid(format!(
                "nodeSelector has operator {operator:?}; write In, NotIn, Exists or DoesNotExist"
            )));
        }
    }
    let spec = &pool.spec;
    if !has_members(spec) && (spec.max_unavailable.is_some() || spec.node_selector.is_some()) {
        problems.push(invalid(
            "ovsHardwareOffloadConfig cannot stand beside maxUnavailable or nodeSelector; make two pools of it"
                .to_owned(),
        ));
    }
    problems
}
