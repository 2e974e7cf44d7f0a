//! Our three programs in the simulation, each around the same plain steps that its shell runs in production.

use super::process::{Informer, News};
use crate::cluster::devices::{Allocation, Device, DeviceLists, Given, allocation_of};
use crate::cluster::kubelet::Container;
use crate::cluster::power::NodeSlot;
use crate::store::{EventType, Store, User};
use api::custody::{Holder, Offer};
use api::wire::{Answer, ObjectKey, Write};
use api::{Timestamp, files, names};
use host::Host;
use host::crashing::{self, Crash, Crashing, Death, Side};
use host::seam::Lock;
use host::sim::SimHost;
use node::daemon::Daemon as DaemonStep;
use node::give;
use node::nearness::{Choice, Places};
use node::plugin::{self, Delivery};
use node::proto::v1beta1::{
    AllocateRequest, ContainerAllocateRequest, ContainerPreferredAllocationRequest,
    PreferredAllocationRequest,
};
use node::world::{Change, NodeWorld};
use operator::controllers::{Operator, Work, goes_on};
use operator::kinds::KINDS;
use operator::settings::Settings;
use operator::world::WatchEvent;
use std::collections::BTreeSet;
use std::time::Duration;

/// One running program.
pub enum Worker {
    Operator(Box<OperatorProcess>),
    Daemon(Box<Daemon>),
    Plugin(Plugin),
}

/// What a step asks for.
#[derive(Default)]
pub struct Taken {
    pub writes: Vec<Write>,
    pub manager: &'static str,
    /// Time that the host's work took.
    pub spent: Duration,
    /// New device lists for the kubelet of a node.
    pub lists: Option<(String, DeviceLists)>,
    work: Option<Work>,
    look_again: Option<Timestamp>,
}

/// A process that was killed in the middle of a step.
pub struct Killed;

/// When a step is cut off: at the k-th primitive, before or after it.
pub type CrashAt = Option<(u64, bool)>;

impl Taken {
    pub fn goes_on(&self, write: &Write, answer: &Answer) -> bool {
        match self.work {
            Some(_) => goes_on(write, answer),
            None => answer.is_done() || matches!(write, Write::Event(_)),
        }
    }
}

impl Worker {
    pub fn name(&self) -> String {
        match self {
            Self::Operator(operator) => operator.pod.clone(),
            Self::Daemon(daemon) => format!("daemon of {}", daemon.step.node),
            Self::Plugin(plugin) => format!("plugin of {}", plugin.node),
        }
    }

    pub fn user(&self) -> User {
        match self {
            Self::Operator(operator) => operator.user.clone(),
            Self::Daemon(daemon) => daemon.user.clone(),
            Self::Plugin(_) => User::anonymous(),
        }
    }

    /// The node on whose machine it works.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Operator(_) => None,
            Self::Daemon(daemon) => Some(&daemon.step.node),
            Self::Plugin(plugin) => Some(&plugin.node),
        }
    }

    /// The node whose clock it reads.
    pub fn clock(&self) -> &str {
        match self {
            Self::Operator(operator) => &operator.node,
            Self::Daemon(daemon) => &daemon.step.node,
            Self::Plugin(plugin) => &plugin.node,
        }
    }

    pub fn informers(&mut self) -> &mut [Informer] {
        match self {
            Self::Operator(operator) => &mut operator.informers,
            Self::Daemon(daemon) => &mut daemon.informers,
            Self::Plugin(_) => &mut [],
        }
    }

    pub fn kind_name(&self, kind: usize) -> &'static str {
        match self {
            Self::Operator(_) => KINDS[kind].kind,
            Self::Daemon(_) => DAEMON_KINDS[kind].1,
            Self::Plugin(_) => "nothing",
        }
    }

    pub fn hear(&mut self, kind: usize, news: News, now: Timestamp) {
        match self {
            Self::Operator(operator) => operator.hear(kind, news, now),
            Self::Daemon(daemon) => daemon.hear(kind, news, now),
            Self::Plugin(_) => {}
        }
    }

    /// When it wants its next step.
    pub fn due(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Operator(operator) => operator.operator.due(),
            Self::Daemon(daemon) => daemon.due,
            // A new offer wakes it, as inotify wakes the real one; without lock or offer it tries again.
            Self::Plugin(plugin) if plugin.offer.is_some() => None,
            Self::Plugin(_) => Some(now + Duration::from_millis(500)),
        }
    }

    /// The last look that it has scheduled for one thing; a daemon looks at everything every half a minute.
    pub fn last_look(&self) -> Option<Timestamp> {
        match self {
            Self::Operator(operator) => operator.operator.queue.last_due(),
            Self::Daemon(_) | Self::Plugin(_) => None,
        }
    }

    pub fn step(
        &mut self,
        told: &Told,
        crash_at: CrashAt,
        now: Timestamp,
    ) -> Result<Taken, Killed> {
        match self {
            Self::Operator(operator) => Ok(operator.step(now)),
            Self::Daemon(daemon) => daemon.step(told, crash_at, now),
            Self::Plugin(plugin) => plugin.step(crash_at),
        }
    }

    pub fn answered(&mut self, taken: Taken, answers: Vec<Answer>, now: Timestamp) {
        match self {
            Self::Operator(operator) => {
                if let Some(work) = taken.work {
                    operator.operator.answered(work, answers, now);
                }
            }
            Self::Daemon(daemon) => daemon.answered(taken, answers, now),
            Self::Plugin(_) => {}
        }
    }
}

/// Calls `step` on a host that dies when its time has come.
fn with_crash<T>(
    host: &SimHost,
    crash_at: CrashAt,
    step: impl FnOnce(&dyn Host) -> T,
) -> Result<T, Killed> {
    let Some((primitive, before)) = crash_at else { return Ok(step(host)) };
    let side = if before { Side::Before } else { Side::After };
    let crashing = Crashing::new(host.clone(), Death::Unwind);
    crashing.arm(Crash { primitive, side });
    crashing::survive(|| step(&crashing)).map_err(|_| Killed)
}

impl Daemon {
    pub fn node(&self) -> &str {
        &self.step.node
    }

    /// A step in a world at rest: it plans nothing, changes nothing and has nothing to say.
    pub fn at_rest(&mut self, told: &Told, now: Timestamp) -> Result<(), String> {
        let before = self.host.changes();
        let Ok(taken) = self.step(told, None, now) else { return Ok(()) };
        let node = &self.step.node;
        match (self.host.changes() == before, taken.writes.first()) {
            (true, None) => Ok(()),
            (false, _) => {
                let last = self.host.take_journal().pop().unwrap_or_default();
                Err(format!("the daemon of {node} changes a machine at rest: {last}"))
            }
            (true, Some(write)) => {
                Err(format!("the daemon of {node} writes {} at rest", write.key()))
            }
        }
    }
}

/// In this time an operator that starts has looked at everything once.
const FIRST_LOOKS: Duration = Duration::from_secs(10);

pub struct OperatorProcess {
    pod: String,
    node: String,
    user: User,
    operator: Operator,
    informers: Vec<Informer>,
}

impl OperatorProcess {
    /// `now` is what the clock of its node says.
    pub fn new(container: &Container, now: Timestamp) -> Result<Self, String> {
        let settings = Settings::of(&container.environment)?;
        let informers = KINDS.iter().enumerate();
        let informers = informers
            .filter(|(_, kind)| !kind.openshift || settings.is_openshift())
            .map(|(row, kind)| Informer::new(row, kind.kind, kind.path(&settings.namespace), ""));
        Ok(Self {
            pod: container.pod.clone(),
            node: container.node.clone(),
            user: User::service_account(&container.namespace, &container.service_account),
            informers: informers.collect(),
            operator: Operator::new(settings, now),
        })
    }

    /// One that starts in a world at rest looks at everything, and finds nothing to change.
    pub fn at_rest(container: &Container, store: &mut Store, now: Timestamp) -> Result<(), String> {
        let mut own = Self::new(container, now)?;
        let user = own.user.clone();
        for index in 0..own.informers.len() {
            let (kind, news) = {
                let informer = &mut own.informers[index];
                (informer.kind, informer.deliver(store, &user, now))
            };
            if let Some(news) = news {
                own.hear(kind, news, now);
            }
        }
        let end = now + FIRST_LOOKS;
        while let Some(due) = own.operator.due().filter(|due| *due <= end) {
            let at = due.max(now);
            let Some(work) = own.operator.step(at) else { break };
            if let Some(write) = work.writes.iter().find(|write| !matches!(write, Write::Event(_)))
            {
                return Err(format!("an operator that starts writes {} at rest", write.key()));
            }
            own.operator.answered(work, Vec::new(), at);
        }
        Ok(())
    }

    fn hear(&mut self, kind: usize, news: News, now: Timestamp) {
        match news {
            News::Listed(objects) => self.operator.relisted(&KINDS[kind], objects, now),
            News::Events(events) => {
                for event in events {
                    let change = match event.event {
                        EventType::Added => operator::world::Change::Added,
                        EventType::Modified => operator::world::Change::Modified,
                        EventType::Deleted => operator::world::Change::Deleted,
                        EventType::Bookmark | EventType::Error => continue,
                    };
                    self.operator.watched(&WatchEvent { change, object: event.object }, now);
                }
            }
        }
    }

    fn step(&mut self, now: Timestamp) -> Taken {
        let work = self.operator.step(now);
        Taken {
            writes: work.as_ref().map(|work| work.writes.clone()).unwrap_or_default(),
            manager: names::OPERATOR,
            work,
            ..Taken::default()
        }
    }
}

/// What the daemon watches: path below the API, kind, and whether it is the node's own name or `default`.
const DAEMON_KINDS: &[(&str, &str, bool)] = &[
    (names::API_VERSION, names::NODE_STATE, true),
    ("v1", "Node", true),
    (names::API_VERSION, names::OPERATOR_CONFIG, false),
];

pub struct Daemon {
    user: User,
    host: SimHost,
    step: DaemonStep,
    world: NodeWorld,
    informers: Vec<Informer>,
    due: Option<Timestamp>,
}

impl Daemon {
    pub fn new(container: &Container, host: SimHost) -> Result<Self, String> {
        let variable = |name: &str| container.environment.get(name).cloned();
        let node = variable("NODE_NAME").ok_or("NODE_NAME is not set")?;
        let namespace = variable("NAMESPACE").unwrap_or_else(|| container.namespace.clone());
        let informers = DAEMON_KINDS.iter().enumerate().map(|(row, (api_version, kind, own))| {
            let space = if *kind == "Node" { "" } else { namespace.as_str() };
            let name = if *own { node.as_str() } else { names::DEFAULT_CONFIG };
            let path = ObjectKey::new(api_version, kind, space, "").collection_path();
            Informer::new(row, kind, path, name)
        });
        Ok(Self {
            user: User::service_account(&container.namespace, &container.service_account),
            host,
            informers: informers.collect(),
            step: DaemonStep::new(&node, &namespace),
            world: NodeWorld::default(),
            due: None,
        })
    }

    /// As the shell does it: a news that changes nothing is no reason to look.
    fn hear(&mut self, kind: usize, news: News, now: Timestamp) {
        let (api_version, kind, own) = DAEMON_KINDS[kind];
        let mut changed = self.due.is_none();
        match news {
            News::Listed(objects) => {
                if objects.is_empty() {
                    let name = if own { self.step.node.as_str() } else { names::DEFAULT_CONFIG };
                    let space = if kind == "Node" { "" } else { self.step.namespace.as_str() };
                    let gone = ObjectKey::new(api_version, kind, space, name);
                    changed |= self.world.apply(&Change::Gone(gone));
                }
                for object in objects {
                    changed |= self.world.is_now(&object);
                }
            }
            News::Events(events) => {
                for event in events {
                    changed |= match event.event {
                        EventType::Deleted => {
                            self.world.apply(&Change::Gone(ObjectKey::of(&event.object)))
                        }
                        EventType::Added | EventType::Modified => self.world.is_now(&event.object),
                        EventType::Bookmark | EventType::Error => false,
                    };
                }
            }
        }
        if changed {
            self.due = Some(now);
        }
    }

    fn step(&mut self, told: &Told, crash_at: CrashAt, now: Timestamp) -> Result<Taken, Killed> {
        self.world.pods = told.given.as_deref().map(holders);
        let due = self.step.sweep_is_due(&self.host);
        self.world.sandboxes = due.then(|| Ok(told.sandboxes.clone()));
        let (step, world) = (&self.step, &self.world);
        let outcome = with_crash(&self.host, crash_at, |host| step.step(host, world, now))?;
        Ok(Taken {
            writes: outcome.writes,
            manager: names::DAEMON,
            spent: self.host.take_waited(),
            look_again: outcome.look_again,
            ..Taken::default()
        })
    }

    fn answered(&mut self, taken: Taken, answers: Vec<Answer>, now: Timestamp) {
        let failed = answers.iter().any(|answer| !answer.is_done());
        let keyed: Vec<(ObjectKey, Answer)> =
            taken.writes.iter().map(Write::key).zip(answers).collect();
        // What was written is news: a booked reboot, for one, goes on at once.
        let news = keyed.iter().any(|(key, _)| key.kind == names::NODE_STATE);
        self.world.answered(&keyed);
        self.due = match (failed, news) {
            (true, _) => Some(now + Duration::from_secs(1)),
            (false, true) => Some(now + Duration::from_millis(10)),
            (false, false) => taken.look_again,
        };
    }
}

/// What kubelet and container runtime of a node say.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// None while the kubelet is stopped, as it is by a reboot that was asked for.
    given: Option<Vec<Given>>,
    sandboxes: BTreeSet<String>,
}

impl Told {
    pub fn by(slot: &NodeSlot) -> Self {
        let kubelet = &slot.kubelet;
        let given = slot.kubelet_runs().then(|| kubelet.devices.listed_as_given());
        Self { given, sandboxes: kubelet.sandboxes() }
    }

    /// Tells of every sandbox that there ever was.
    pub fn remember(&mut self, ever: &mut BTreeSet<String>) {
        ever.extend(self.sandboxes.iter().cloned());
        self.sandboxes.clone_from(ever);
    }
}

/// What PodResources would list.
fn holders(given: &[Given]) -> Vec<Holder> {
    let of = |given: &Given| {
        let holder = |id: &String| Holder {
            device: id.clone(),
            resource: given.resource.clone(),
            namespace: given.namespace.clone(),
            pod: given.pod.clone(),
            uid: String::new(),
        };
        given.ids.iter().map(holder).collect::<Vec<_>>()
    };
    given.iter().flat_map(of).collect()
}

pub struct Plugin {
    pub node: String,
    host: SimHost,
    lock: Option<Lock>,
    offer: Option<Offer>,
}

impl Plugin {
    pub fn new(container: &Container, host: SimHost) -> Result<Self, String> {
        Ok(Self { node: container.node.clone(), host, lock: None, offer: None })
    }

    pub fn resources(&self) -> Vec<String> {
        self.offer.iter().flat_map(|offer| offer.resources.keys().cloned()).collect()
    }

    /// The kubelet starts anew: everything is told again at the next step.
    pub fn disconnected(&mut self) {
        self.offer = None;
    }

    /// Lock first, offer second; a new offer is acknowledged before the kubelet hears of it.
    fn step(&mut self, crash_at: CrashAt) -> Result<Taken, Killed> {
        let Self { node, host, lock, offer } = self;
        let lists = with_crash(host, crash_at, |host| {
            if lock.is_none() {
                *lock = host.lock(files::DEVICE_PLUGIN_LOCK, Duration::ZERO).ok();
            }
            lock.as_ref()?;
            let boot_id = node::observe::boot_id(host).ok()?;
            let give::Taken::New(fresh) = give::take_offer(host, &boot_id, offer.as_ref()) else {
                return None;
            };
            let lists = lists(offer.as_ref(), &fresh);
            *offer = Some(fresh);
            Some(lists)
        })?;
        let spent = host.take_waited();
        Ok(Taken { spent, lists: lists.map(|lists| (node.clone(), lists)), ..Taken::default() })
    }

    pub fn preferred(&self, resource: &str, available: &[String], size: usize) -> Vec<String> {
        let Some(offered) = self.offer.as_ref().and_then(|o| o.resources.get(resource)) else {
            return Vec::new();
        };
        let request = PreferredAllocationRequest {
            container_requests: vec![ContainerPreferredAllocationRequest {
                available_device_i_ds: available.to_vec(),
                must_include_device_i_ds: Vec::new(),
                allocation_size: i32::try_from(size).unwrap_or(i32::MAX),
            }],
        };
        let choice = Choice { resource: offered, places: &Places::new(), gpus: &[] };
        let response = plugin::preferred(&choice, &request);
        response.container_responses.into_iter().next().map(|c| c.device_i_ds).unwrap_or_default()
    }

    pub fn allocate(&mut self, resource: &str, ids: &[String]) -> Result<Allocation, String> {
        let offer = self.offer.as_ref().ok_or("there is no offer on this node yet")?;
        let request = AllocateRequest {
            container_requests: vec![ContainerAllocateRequest { devices_ids: ids.to_vec() }],
        };
        let response = give::allocate(&self.host, offer, resource, &request, Delivery::Cdi)?;
        Ok(response.container_responses.into_iter().next().map(allocation_of).unwrap_or_default())
    }
}

/// One list for each resource; a resource that is offered no more has its plugin taken away.
fn lists(before: Option<&Offer>, now: &Offer) -> DeviceLists {
    let device = |device: &node::proto::v1beta1::Device| Device {
        id: device.id.clone(),
        healthy: device.health == "Healthy",
        numa: device.topology.as_ref().and_then(|t| t.nodes.first()).map(|n| n.id),
    };
    let mut lists: Vec<_> = now
        .resources
        .iter()
        .map(|(name, resource)| {
            (name.clone(), Some(plugin::list(resource).devices.iter().map(device).collect()))
        })
        .collect();
    let gone = before.into_iter().flat_map(|offer| offer.resources.keys());
    lists.extend(
        gone.filter(|name| !now.resources.contains_key(*name)).map(|name| (name.clone(), None)),
    );
    lists
}
