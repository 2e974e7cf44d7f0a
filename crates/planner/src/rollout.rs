//! Which nodes may be disturbed next: grants to keep, to add and to give back, and why every other node waits.
//!
//! A grant is a right that is stored before it is used (design.md, section 5); this module only says how the list of
//! grants should read. The order among waiting nodes is fixed: a node that is disturbed already, then one that is empty
//! and cordoned by somebody else (taking it costs nothing), then by name.

use crate::afterwards::Afterwards;
use crate::blocker::{self, Blocker};
use crate::deadline::{DrainPolicy, OnDeadline, in_words};
use crate::merge::{self, ModeWish};
use crate::order::DrainRequest;
use crate::pools::{self, Limit, Membership};
use crate::reason::Problem;
use crate::waves::{self, Waves};
use api::operatorconfig::ControlPlaneGrant;
use api::pool::{Grant, RolloutStatus, SkippedNode, SriovNetworkPoolConfig, WaitingNode};
use api::{RdmaMode, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// `phase` of a rollout in which not everybody may go: canaries first, because nodes came back worse, or until a person
/// says so after the canaries.
pub use crate::waves::{CANARY, HALTED, PAUSED};

/// The cluster as the rollout sees it.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// All pools, with the grants of their status.
    pub pools: Vec<SriovNetworkPoolConfig>,
    /// Grants of nodes in no pool: the status of `SriovOperatorConfig/default`.
    pub grants_without_pool: Vec<Grant>,
    /// The one control-plane node that may be disturbed: status of `SriovOperatorConfig/default` too, so that two pools
    /// cannot each give one away.
    pub control_plane: Option<ControlPlaneGrant>,
    /// All nodes of the cluster, by name.
    pub nodes: BTreeMap<String, FleetNode>,
}

/// One node as the rollout sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetNode {
    pub labels: BTreeMap<String, String>,
    /// Condition Ready is True.
    pub ready: bool,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// Our annotation says that this cordon is ours.
    pub cordoned_by_us: bool,
    /// Nothing runs there that a drain would have to move.
    pub empty: bool,
    /// Has a node state: only such nodes are managed, ask for drains and count.
    pub managed: bool,
    /// What the node asks for, as far as its grant still has to do with it.
    pub request: DrainRequest,
    /// What the node asks for, whatever became of its grant.
    pub wants: DrainRequest,
    /// `current-state` of the node state.
    pub current: Progress,
    /// Somebody else drains this node.
    pub external_drainer: bool,
    /// The node state says `Succeeded` for its present generation.
    pub at_goal: bool,
    /// The RDMA mode that the spec of the node state asks for. A pool's wish reaches it one write after the pool: until
    /// then the node is at an older goal.
    pub ordered_mode: Option<RdmaMode>,
    /// The error that the node reports, for the pool's list of failures.
    pub failing: Option<String>,
    /// It reports that a reboot did not help, did not happen, or is not to be tried again.
    pub reboot_useless: bool,
    /// What it reports is about an older order than the present one.
    pub stale: bool,
    /// Since when the node is not Ready.
    pub not_ready_since: Option<Timestamp>,
    /// Since when it is Ready in a boot of which its daemon has said nothing.
    pub silent_since: Option<Timestamp>,
    /// A drain was started under the grant that the node has.
    pub grant_used: bool,
    /// A drain was started under the cluster-wide grant of control-plane nodes that the node has, or it was closed.
    pub control_plane_used: bool,
    /// What is in the way of the node's drain, in words; empty when nothing is.
    pub in_the_way: String,
    /// What it waits for once it is drained.
    pub afterwards: Afterwards,
}

/// How far the operator has come with a node: the node state's `current-state`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    #[default]
    Idle,
    Draining,
    DrainComplete,
}

impl Progress {
    /// Reads the annotation; anything unknown, or nothing, is `Idle`.
    pub fn read(text: &str) -> Self {
        match text {
            api::annotation::DRAINING => Self::Draining,
            api::annotation::DRAIN_COMPLETE => Self::DrainComplete,
            _ => Self::Idle,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => api::annotation::IDLE,
            Self::Draining => api::annotation::DRAINING,
            Self::DrainComplete => api::annotation::DRAIN_COMPLETE,
        }
    }
}

/// What should be, for every pool and for the nodes without one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rollout {
    /// By name of the pool.
    pub pools: BTreeMap<String, PoolRollout>,
    pub without_pool: PoolRollout,
    /// The cluster-wide grant of control-plane nodes as it should read.
    pub control_plane: Option<ControlPlaneGrant>,
}

impl Rollout {
    /// The grant that a node has, wherever it was given.
    pub fn grant_of(&self, node: &str) -> Option<&Grant> {
        let everywhere = self.pools.values().chain([&self.without_pool]);
        everywhere.flat_map(|pool| &pool.grants).find(|grant| grant.node == node)
    }

    /// Why a node waits, if it does.
    pub fn waits(&self, node: &str) -> Option<&Blocker> {
        let everywhere = self.pools.values().chain([&self.without_pool]);
        everywhere.flat_map(|pool| &pool.waiting).find(|(name, _)| name == node).map(|(_, b)| b)
    }
}

/// What should be in one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolRollout {
    /// The whole list as it should read, in the order of granting.
    pub grants: Vec<Grant>,
    /// Nodes that are granted now and were not before.
    pub added: Vec<String>,
    /// Nodes whose grant ends, each with why.
    pub given_back: Vec<(String, String)>,
    /// Nodes that ask and may not yet, in the order in which they will be taken.
    pub waiting: Vec<(String, Blocker)>,
    pub limit: Limit,
    /// Managed nodes of the pool, those in several pools included.
    pub nodes: usize,
    /// Managed nodes of the pool that are at their goal and not disturbed.
    pub ready_nodes: usize,
    /// What is wrong with the pool, above all nodes that are in another pool too.
    pub problems: Vec<Problem>,
    /// Nodes whose drain was given up at its deadline.
    pub skipped: Vec<SkippedNode>,
    /// How far the rollout is, if one is under way.
    pub rollout: Option<RolloutStatus>,
    /// The value of the annotation `resume` that was acted on.
    pub resumed: String,
    /// When time alone changes something here.
    pub look_again: Option<Timestamp>,
}

impl Default for PoolRollout {
    fn default() -> Self {
        Self {
            grants: vec![],
            added: vec![],
            given_back: vec![],
            waiting: vec![],
            limit: Limit::Nodes(1),
            nodes: 0,
            ready_nodes: 0,
            problems: vec![],
            skipped: vec![],
            rollout: None,
            resumed: String::new(),
            look_again: None,
        }
    }
}

impl PoolRollout {
    /// The waiting nodes as the pool's status lists them; at most [`LISTED`], first those that wait for a person.
    pub fn waiting_status(&self) -> Vec<WaitingNode> {
        let waiting = self.waiting_by_weight().take(LISTED);
        waiting
            .map(|(node, why)| WaitingNode { node: node.clone(), because: why.to_string() })
            .collect()
    }

    /// Nodes that wait for a person, and that the status has no place for.
    pub fn unlisted(&self) -> impl Iterator<Item = &(String, Blocker)> {
        self.waiting_by_weight().skip(LISTED).filter(|(_, why)| !why.ends_by_itself())
    }

    fn waiting_by_weight(&self) -> impl Iterator<Item = &(String, Blocker)> {
        let ends = |waits: &&(String, Blocker)| waits.1.ends_by_itself();
        let persons = self.waiting.iter().filter(move |waits| !ends(waits));
        persons.chain(self.waiting.iter().filter(ends))
    }
}

/// Waiting nodes that a pool's status lists by name. Of the others those that wait for a person say it in their node states,
/// and the pool's condition speaks for those that wait for their turn.
pub const LISTED: usize = 50;

/// Decides, for every pool at once, which grants should stand. `now` becomes the `since` of new grants.
///
/// The count of a pool's grants never exceeds its `maxUnavailable` through a new grant; when the limit was lowered
/// below what is granted already, nothing is taken away and nothing is added.
pub fn next(fleet: &Fleet, now: Timestamp) -> Rollout {
    let nodes = fleet.nodes.iter();
    let members: Vec<Member> = nodes
        .map(|(name, node)| Member {
            name,
            node,
            of: pools::membership(&node.labels, &fleet.pools),
        })
        .collect();
    let mut rollout = Rollout::default();
    for pool in fleet.pools.iter().filter(|pool| pools::has_members(&pool.spec)) {
        let name = &pool.metadata.name;
        let mut next = keep(fleet, &pool.status.grants);
        let in_pool = |membership: &Membership| match membership {
            Membership::Pool(one) => one == name,
            Membership::Several(names) => names.contains(name),
            Membership::NoPool => false,
        };
        count(fleet, &members, in_pool, &mut next);
        next.limit = match waves::problems(pool).first() {
            // Whoever wants canaries, a pause or a halt must not get a rollout without them.
            Some(problem) => Limit::Invalid(problem.message.clone()),
            None => pools::limit(pool.spec.max_unavailable.as_ref(), next.nodes),
        };
        next.problems = pool_problems(pool, &members);
        next_wave(pool, fleet, &members, &mut next, now);
        rollout.pools.insert(name.clone(), next);
    }
    let mut next = keep(fleet, &fleet.grants_without_pool);
    count(fleet, &members, |membership| *membership == Membership::NoPool, &mut next);
    rollout.without_pool = next;
    let mut deciding = Deciding::new(fleet, &members, rollout, now);
    for member in in_order(&members) {
        deciding.ask(member.name, &member.of, now);
    }
    deciding.rollout.control_plane = deciding.next_control_plane(now);
    deciding.rollout
}

/// A node, and where it belongs.
struct Member<'a> {
    name: &'a str,
    node: &'a FleetNode,
    of: Membership,
}

/// The part of the decision that one pool makes before anybody is granted: who is skipped, and which wave it is.
fn next_wave(
    pool: &SriovNetworkPoolConfig,
    fleet: &Fleet,
    members: &[Member],
    next: &mut PoolRollout,
    now: Timestamp,
) {
    let (value, resumed) = waves::resumed(pool);
    next.resumed = value;
    next.skipped = skipped(pool, fleet, &next.grants, resumed, now);
    next.rollout = waves(pool, members, now).advance(next, resumed);
    next.look_again = look_again(pool, fleet, next, now);
}

fn waves<'a>(
    pool: &'a SriovNetworkPoolConfig,
    members: &[Member<'a>],
    now: Timestamp,
) -> Waves<'a> {
    let name = &pool.metadata.name;
    let nodes = members.iter().filter(|member| {
        member.node.managed && matches!(&member.of, Membership::Pool(one) if one == name)
    });
    Waves { pool, members: nodes.map(|member| (member.name, member.node)).collect(), now }
}

/// Nodes whose drain is given up: those that were, until somebody resumes or they need no drain any more, and those
/// whose deadline is over. The grant of a new one stays until its drain is undone.
fn skipped(
    pool: &SriovNetworkPoolConfig,
    fleet: &Fleet,
    grants: &[Grant],
    resumed: bool,
    now: Timestamp,
) -> Vec<SkippedNode> {
    let policy = DrainPolicy::of(pool);
    if policy.on_deadline != OnDeadline::SkipNode {
        return Vec::new();
    }
    let still = |skipped: &&SkippedNode| {
        let node = fleet.nodes.get(&skipped.node).filter(|node| node.managed);
        node.is_some_and(|node| {
            let is_done = node.current == Progress::DrainComplete;
            node.wants != DrainRequest::Idle && (!is_done || node.afterwards.may_be_given_up(now))
        })
    };
    let old = pool.status.skipped.iter().filter(|_| !resumed).filter(still);
    let mut all: Vec<SkippedNode> = old.cloned().collect();
    for grant in grants.iter().filter(|grant| policy.end_of(grant) <= now) {
        let Some(node) = fleet.nodes.get(&grant.node) else { continue };
        let known = all.iter().any(|skipped| skipped.node == grant.node);
        if let Some(because) = late(node, policy.deadline, now).filter(|_| !known) {
            all.push(SkippedNode { node: grant.node.clone(), because, since: now });
        }
    }
    all
}

/// Why a node is skipped at its deadline, if it may be.
fn late(node: &FleetNode, deadline: Duration, now: Timestamp) -> Option<String> {
    let deadline = in_words(deadline);
    match node.current {
        Progress::Draining if node.in_the_way.is_empty() => {
            Some(format!("not drained after {deadline}"))
        }
        Progress::Draining => Some(format!("not drained after {deadline}: {}", node.in_the_way)),
        Progress::DrainComplete if node.afterwards.may_be_given_up(now) => {
            Some(format!("not done after {deadline}: {}", node.afterwards.waits_for(now)))
        }
        Progress::Idle | Progress::DrainComplete => None,
    }
}

/// The next deadline of a drain that would be skipped, or of a node that does not come back.
fn look_again(
    pool: &SriovNetworkPoolConfig,
    fleet: &Fleet,
    next: &PoolRollout,
    now: Timestamp,
) -> Option<Timestamp> {
    let policy = DrainPolicy::of(pool);
    let times = next.grants.iter().flat_map(|grant| {
        let node = fleet.nodes.get(&grant.node);
        let skips = |node: &&FleetNode| {
            policy.on_deadline == OnDeadline::SkipNode && node.current != Progress::Idle
        };
        let end = node.filter(skips).map(|_| policy.end_of(grant));
        let silent = node.filter(skips).and_then(|node| node.afterwards.silent_at());
        let away = node.filter(|node| node.current != Progress::Draining);
        let since = away.and_then(|node| node.not_ready_since.or(node.silent_since));
        let back = since.and_then(|since| since.checked_add(waves::BACK_WITHIN).ok());
        end.into_iter().chain(silent).chain(back)
    });
    times.filter(|at| *at > now).min()
}

/// Grants that stand, and those that end. A grant of a node that moved to another pool stays where it was given.
fn keep(fleet: &Fleet, grants: &[Grant]) -> PoolRollout {
    let mut next = PoolRollout::default();
    for grant in grants {
        match ended(fleet, grant) {
            Some(why) => next.given_back.push((grant.node.clone(), why)),
            None => next.grants.push(grant.clone()),
        }
    }
    next
}

/// Why a grant ends, if it does: the node was seen idle again and uncordoned by us, or it is gone.
fn ended(fleet: &Fleet, grant: &Grant) -> Option<String> {
    let name = &grant.node;
    let Some(node) = fleet.nodes.get(name) else { return Some(format!("{name} is gone")) };
    if !node.managed {
        return Some(format!("{name} is no longer managed"));
    }
    let idle = node.request == DrainRequest::Idle && node.current == Progress::Idle;
    // Until it is Ready again it counts: the next node must not go while this one is not back.
    (idle && !node.cordoned_by_us && node.ready).then(|| match node.wants {
        DrainRequest::Idle => format!("{name} asks for nothing more and is uncordoned"),
        DrainRequest::Drain | DrainRequest::Reboot => {
            format!("the drain of {name} was undone; it waits for another turn")
        }
    })
}

fn count(
    fleet: &Fleet,
    members: &[Member],
    belongs: impl Fn(&Membership) -> bool,
    next: &mut PoolRollout,
) {
    for Member { node, of, .. } in members.iter().filter(|member| member.node.managed) {
        if belongs(of) {
            next.nodes += 1;
            let undisturbed = node.request == DrainRequest::Idle && node.current == Progress::Idle;
            let ordered = match merge::mode_of(of, &fleet.pools) {
                ModeWish::Is(mode) => node.ordered_mode == mode,
                ModeWish::Keep => true,
            };
            next.ready_nodes += usize::from(node.at_goal && ordered && undisturbed);
        }
    }
}

fn pool_problems(pool: &SriovNetworkPoolConfig, members: &[Member]) -> Vec<Problem> {
    let name = &pool.metadata.name;
    let mut problems = pools::problems(pool);
    for member in members.iter().filter(|member| member.node.managed) {
        let Membership::Several(names) = &member.of else { continue };
        if names.contains(name) {
            let node = member.name.to_owned();
            let blocker = Blocker::TwoPools { node, pools: names.clone() };
            problems.push(Problem::new(
                blocker.reason(),
                &format!("pool {name}"),
                blocker.to_string(),
            ));
        }
    }
    problems
}

/// Managed nodes that ask for something, in the order in which they are taken.
fn in_order<'a, 'f>(members: &'a [Member<'f>]) -> Vec<&'a Member<'f>> {
    let asks = |node: &FleetNode| node.managed && node.request != DrainRequest::Idle;
    let mut asking: Vec<_> = members.iter().filter(|member| asks(member.node)).collect();
    asking.sort_by_key(|Member { name, node, .. }| {
        let free = node.empty && node.unschedulable && !node.cordoned_by_us;
        (node.current == Progress::Idle, !free, *name)
    });
    asking
}

/// The decision in the making, with what would else be counted anew for each node.
struct Deciding<'a> {
    fleet: &'a Fleet,
    waves: BTreeMap<&'a str, Waves<'a>>,
    /// By pool with `countUnavailable`: the nodes that somebody else disturbs, and how.
    unavailable: BTreeMap<&'a str, Vec<(&'a str, &'static str)>>,
    rollout: Rollout,
    /// Nodes with a grant, wherever it was given.
    granted: BTreeSet<String>,
    /// The nodes that use up each limit: those with a grant of it, and members that are disturbed without one
    /// (upstream drained them before ironrail took over).
    busy: BTreeMap<Membership, BTreeSet<String>>,
    control_plane: Vec<(&'a str, &'a FleetNode)>,
}

impl<'a> Deciding<'a> {
    fn new(fleet: &'a Fleet, members: &[Member<'a>], rollout: Rollout, now: Timestamp) -> Self {
        let mut granted = BTreeSet::new();
        let mut busy: BTreeMap<Membership, BTreeSet<String>> = BTreeMap::new();
        let pools = rollout.pools.iter().map(|(name, pool)| (Membership::Pool(name.clone()), pool));
        for (limit, pool) in pools.chain([(Membership::NoPool, &rollout.without_pool)]) {
            let nodes = pool.grants.iter().map(|grant| grant.node.clone());
            granted.extend(nodes.clone());
            busy.entry(limit).or_default().extend(nodes);
        }
        for member in members.iter().filter(|member| member.node.current != Progress::Idle) {
            busy.entry(member.of.clone()).or_default().insert(member.name.to_owned());
        }
        let named = members.iter().map(|member| (member.name, member.node));
        let control_plane = named.filter(|(_, node)| is_control_plane(node)).collect();
        let waves =
            fleet.pools.iter().map(|pool| (pool.metadata.name.as_str(), waves(pool, members, now)));
        let waves: BTreeMap<&str, Waves> = waves.collect();
        let counting = waves.iter().filter(|(_, waves)| {
            waves.pool.spec.rollout.as_ref().is_some_and(|spec| spec.count_unavailable)
        });
        let unavailable = counting.map(|(pool, waves)| (*pool, waves.unavailable())).collect();
        Self { fleet, waves, unavailable, rollout, granted, busy, control_plane }
    }

    /// One node's request: granted, or waiting with why.
    fn ask(&mut self, name: &str, membership: &Membership, now: Timestamp) {
        if self.granted.contains(name) {
            return;
        }
        match self.refusal(name, membership) {
            Some(blocker) => self.wait(name, membership, &blocker),
            None => {
                let facts = &self.fleet.nodes[name];
                let reason = facts.request.as_str().to_owned();
                let (failing, reboot_useless) = (facts.failing.is_some(), facts.reboot_useless);
                self.granted.insert(name.to_owned());
                self.busy.entry(membership.clone()).or_default().insert(name.to_owned());
                let pool = self.pool_mut(membership);
                pool.added.push(name.to_owned());
                waves::granted(pool, name);
                let node = name.to_owned();
                pool.grants.push(Grant { node, reason, since: now, failing, reboot_useless });
            }
        }
    }

    fn wait(&mut self, name: &str, membership: &Membership, blocker: &Blocker) {
        let Membership::Several(names) = membership else {
            self.pool_mut(membership).waiting.push((name.to_owned(), blocker.clone()));
            return;
        };
        for pool in names {
            if let Some(pool) = self.rollout.pools.get_mut(pool) {
                pool.waiting.push((name.to_owned(), blocker.clone()));
            }
        }
    }

    fn pool(&self, membership: &Membership) -> &PoolRollout {
        match membership {
            Membership::Pool(name) => &self.rollout.pools[name],
            Membership::NoPool | Membership::Several(_) => &self.rollout.without_pool,
        }
    }

    fn pool_mut(&mut self, membership: &Membership) -> &mut PoolRollout {
        match membership {
            Membership::Pool(name) => self.rollout.pools.entry(name.clone()).or_default(),
            Membership::NoPool | Membership::Several(_) => &mut self.rollout.without_pool,
        }
    }

    fn refusal(&self, name: &str, membership: &Membership) -> Option<Blocker> {
        let node = name.to_owned();
        let pool = match membership {
            Membership::Several(pools) => {
                return Some(Blocker::TwoPools { node, pools: pools.clone() });
            }
            Membership::Pool(name) => name.clone(),
            Membership::NoPool => String::new(),
        };
        let facts = &self.fleet.nodes[name];
        if facts.external_drainer {
            return Some(Blocker::ExternalDrainer { node });
        }
        let limit = match &self.pool(membership).limit {
            Limit::Paused => return Some(Blocker::PoolPaused { node, pool }),
            Limit::Invalid(message) => {
                return Some(Blocker::PoolInvalid { node, pool, message: message.clone() });
            }
            Limit::Nodes(limit) => *limit,
        };
        // A node that is drained already is not disturbed further by being granted; it is adopted.
        if !facts.ready && facts.current == Progress::Idle {
            return Some(Blocker::NodeNotReady { node });
        }
        let wave = match facts.current {
            Progress::Idle => self.waves.get(pool.as_str()),
            Progress::Draining | Progress::DrainComplete => None,
        };
        if let Some(blocker) = wave.and_then(|wave| wave.refusal(self.pool(membership), name)) {
            return Some(blocker);
        }
        if let Some(blocker) = self.used_up(name, &pool, limit) {
            return Some(blocker);
        }
        let others = self.busy.get(membership).into_iter().flatten().filter(|busy| *busy != name);
        let busy = others.clone().count();
        if busy >= limit {
            let names = others.take(blocker::SHOWN).cloned().collect();
            return Some(Blocker::PoolLimit { node, limit, busy, names });
        }
        is_control_plane(facts).then(|| self.control_plane_refusal(name)).flatten()
    }

    /// `countUnavailable`: nodes that somebody else disturbs use up the limit too.
    fn used_up(&self, name: &str, pool: &str, limit: usize) -> Option<Blocker> {
        let unavailable = self.unavailable.get(pool)?;
        let busy = self.busy.get(&Membership::Pool(pool.to_owned()));
        let ours = busy.into_iter().flatten().map(|other| (other.as_str(), "is draining"));
        let theirs = unavailable.iter().copied();
        let theirs = theirs.filter(|(other, _)| !busy.is_some_and(|busy| busy.contains(*other)));
        let all = ours.chain(theirs).filter(|(other, _)| *other != name);
        let names: Vec<String> = all.map(|(other, why)| format!("{other} {why}")).collect();
        let node = name.to_owned();
        (names.len() >= limit).then_some(Blocker::PoolUsedUp { node, limit, names })
    }

    /// The cluster-wide grant of control-plane nodes: kept until its drain is over, else given to the first
    /// control-plane node whose own grant was seen stored, while all the others are Ready and at rest.
    fn next_control_plane(&self, now: Timestamp) -> Option<ControlPlaneGrant> {
        if let Some(grant) = &self.fleet.control_plane {
            let held = self.control_plane.iter().find(|(name, _)| *name == grant.node);
            let over = |node: &FleetNode| {
                !node.managed
                    || (node.control_plane_used && node.current == Progress::Idle && node.ready)
            };
            if held.is_some_and(|(_, node)| !over(node)) {
                return Some(grant.clone());
            }
        }
        let pools = self.fleet.pools.iter().flat_map(|pool| &pool.status.grants);
        let stored: BTreeSet<&str> =
            pools.chain(&self.fleet.grants_without_pool).map(|g| g.node.as_str()).collect();
        let waiting = self.control_plane.iter().filter(|(name, node)| {
            stored.contains(name) && self.granted.contains(*name) && node.managed
        });
        let others_rest = |name: &str| {
            let mut others = self.control_plane.iter().filter(|(other, _)| *other != name);
            others.all(|(_, node)| node.ready && node.current == Progress::Idle)
        };
        let (name, _) =
            waiting.filter(|(_, node)| !node.grant_used).find(|(name, _)| others_rest(name))?;
        Some(ControlPlaneGrant { node: (*name).to_owned(), since: now })
    }

    /// Control-plane nodes go one at a time in the whole cluster, and only while all the others are Ready.
    fn control_plane_refusal(&self, name: &str) -> Option<Blocker> {
        let others = self.control_plane.iter().filter(|(other, _)| *other != name);
        let others = others.map(|(other, node)| {
            let disturbed = self.granted.contains(*other) || node.current != Progress::Idle;
            (*other, node.ready, disturbed)
        });
        control_plane_waits(name, others)
    }
}

/// Why a control-plane node waits, if it does. `others`: the other control-plane nodes, each with whether it is Ready, and
/// whether it is disturbed itself as far as that counts.
pub fn control_plane_waits<'a>(
    node: &str,
    mut others: impl Iterator<Item = (&'a str, bool, bool)>,
) -> Option<Blocker> {
    let (other, _, disturbed) = others.find(|(_, ready, disturbed)| *disturbed || !ready)?;
    let (node, other) = (node.to_owned(), other.to_owned());
    Some(Blocker::ControlPlaneBusy { node, other, disturbed })
}

fn is_control_plane(node: &FleetNode) -> bool {
    has_control_plane_role(&node.labels)
}

/// True for a node with a control-plane role.
pub fn has_control_plane_role(labels: &BTreeMap<String, String>) -> bool {
    labels.contains_key(api::label::CONTROL_PLANE) || labels.contains_key(api::label::MASTER)
}
