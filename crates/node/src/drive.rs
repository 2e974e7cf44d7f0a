//! Shell: the tokio driver of the daemon. Watches its own three objects, calls the step, sends its writes in order.
//!
//! What to do is decided in `daemon`; how soon to look again is in its outcome.

use crate::cdi::Ask;
use crate::daemon::Daemon;
use crate::leftovers::Leftovers;
use crate::process::Image;
use crate::wake::{Pace, Wakes};
use crate::world::{Change, NodeWorld};
use crate::{boot_units, cdi, http, kubelet, pod_resources, sandboxes};
use anyhow::Context;
use api::wire::{Answer, ObjectKey, Outcome, Write};
use api::{Timestamp, files, names};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use host::Host;
use host::seam::Interest;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// `configurationMode` that has the boot phases installed.
const SYSTEMD: &str = "systemd";
/// Pause after a write that was refused; doubled up to `LONGEST`.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// Events come in bursts: sixteen VFs are more than a hundred of them.
const BURST: Duration = Duration::from_millis(50);

/// What the daemon needs.
pub struct Settings {
    pub daemon: Daemon,
    pub client: kube::Client,
    pub host: Arc<dyn Host>,
    /// The kubelet's directory, as it was given to us.
    pub kubelet: PathBuf,
    /// Where the host's root directory is: the container runtime's socket lies below it.
    pub root: PathBuf,
    pub pace: Pace,
    /// When the container runtime is asked what it is.
    pub ask: Ask,
    /// Where this program is, for the boot phases.
    pub image: Image,
    /// When the boot phases are to be looked at.
    pub follow: boot_units::Follow,
}

/// What a watch tells.
enum News {
    Change(Change),
    /// The first list of a watch is complete.
    Complete,
}

/// Runs the daemon until the future is dropped.
pub async fn run(mut settings: Settings) -> anyhow::Result<()> {
    let interests = vec![
        Interest::Uevent,
        Interest::Link,
        Interest::Rdma,
        Interest::File(files::CLAIMS.to_owned()),
        Interest::File(files::CNI_JOURNAL.to_owned()),
    ];
    let mut wakes = Wakes::new(Arc::clone(&settings.host), interests, settings.pace)
        .context("cannot watch the node")?;
    let keys = own_objects(&settings.daemon);
    let mut incomplete = keys.len();
    let mut news = stream::select_all(keys.into_iter().map(|key| watch(&settings.client, key)));
    let mut world = NodeWorld::default();
    let mut pause = PAUSE;
    let mut leftovers = Leftovers::look(settings.host.as_ref());
    loop {
        // A world with holes would be taken for one in which nothing is wanted.
        while incomplete > 0 {
            let Some(first) = news.next().await else { anyhow::bail!("the watches ended") };
            incomplete -= take_in(&mut world, first).complete;
        }
        while let Some(Some(more)) = futures::FutureExt::now_or_never(news.next()) {
            take_in(&mut world, more);
        }
        leftovers.remove_when_due(settings.host.as_ref());
        let outcome = step(&mut settings, &mut world).await?;
        let (wrote, refused) = carry_out(&settings.client, &mut world, &outcome.writes).await;
        pause = if refused { pause.saturating_mul(2).min(LONGEST) } else { PAUSE };
        let nap = match (refused, wrote) {
            (true, _) => pause,
            // What was stored is news: a reboot that is booked now goes on.
            (false, true) => BURST,
            (false, false) => {
                let now = settings.host.now();
                until(&outcome, now).min(settings.ask.silence_ends_in(now).unwrap_or(LONGEST))
            }
        };
        rest(&mut news, &mut wakes, &mut world, nap).await;
    }
}

/// Until something that a step reads is another, or it is time to look. A heartbeat of the kubelet is no reason to look at
/// the whole node.
async fn rest(
    news: &mut (impl Stream<Item = News> + Unpin),
    wakes: &mut Wakes,
    world: &mut NodeWorld,
    nap: Duration,
) {
    let mut end = std::pin::pin!(tokio::time::sleep(nap));
    loop {
        tokio::select! {
            more = news.next() => if more.is_none_or(|more| take_in(world, more).changed) { break },
            () = wakes.next() => break,
            () = &mut end => return,
        }
    }
    tokio::time::sleep(BURST).await;
}

fn own_objects(daemon: &Daemon) -> Vec<ObjectKey> {
    let ours = |kind, name| ObjectKey::new(names::API_VERSION, kind, &daemon.namespace, name);
    vec![
        ours(names::NODE_STATE, &daemon.node),
        ours(names::OPERATOR_CONFIG, names::DEFAULT_CONFIG),
        ObjectKey::new("v1", "Node", "", &daemon.node),
    ]
}

/// Watches one object by its name, never the kind: a cluster has thousands of nodes.
fn watch(client: &kube::Client, key: ObjectKey) -> BoxStream<'static, News> {
    let (group, version) = key.api_version.rsplit_once('/').unwrap_or(("", &key.api_version));
    let kind = GroupVersionKind::gvk(group, version, &key.kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, &api::wire::plural(&key.kind));
    let objects: Api<DynamicObject> = match key.namespace.as_str() {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    let only = watcher::Config::default().fields(&format!("metadata.name={}", key.name));
    let events = watcher::watcher(objects, only).default_backoff();
    news(events, key).boxed()
}

fn news(
    events: impl Stream<Item = watcher::Result<Event<DynamicObject>>>,
    key: ObjectKey,
) -> impl Stream<Item = News> {
    let mut listed = false;
    events.flat_map(move |event| {
        let news = match event {
            Ok(Event::Init) => {
                listed = false;
                vec![]
            }
            Ok(Event::InitApply(object)) => {
                listed = true;
                vec![News::Change(Change::Listed(document(&key, &object)))]
            }
            Ok(Event::InitDone) if listed => vec![News::Complete],
            Ok(Event::InitDone) => vec![News::Change(Change::Gone(key.clone())), News::Complete],
            Ok(Event::Apply(object)) => vec![News::Change(Change::Is(document(&key, &object)))],
            Ok(Event::Delete(_)) => vec![News::Change(Change::Gone(key.clone()))],
            Err(error) => {
                tracing::warn!("cannot watch {key}: {error}; trying again");
                vec![]
            }
        };
        stream::iter(news)
    })
}

/// The object as JSON; items of a list carry neither kind nor version.
fn document(key: &ObjectKey, object: &DynamicObject) -> serde_json::Value {
    let mut document = serde_json::to_value(object).unwrap_or_default();
    document["apiVersion"] = key.api_version.as_str().into();
    document["kind"] = key.kind.as_str().into();
    document
}

/// What a news amounts to.
#[derive(Default)]
struct Taken {
    /// One for the end of a first list.
    complete: usize,
    /// Something that a step reads is another now.
    changed: bool,
}

fn take_in(world: &mut NodeWorld, news: News) -> Taken {
    match news {
        News::Change(change) => Taken { changed: world.apply(&change), ..Taken::default() },
        News::Complete => Taken { complete: 1, ..Taken::default() },
    }
}

/// One step on a thread that may block: a VF count alone can take a minute.
async fn step(settings: &mut Settings, world: &mut NodeWorld) -> anyhow::Result<Outcome> {
    world.pods = match pod_resources::list(&settings.kubelet.join(pod_resources::SOCKET)).await {
        Ok(pods) => Some(pods),
        Err(why) => {
            tracing::warn!("{why}");
            None
        }
    };
    world.elsewhere = match world.pods {
        Some(_) => None,
        None => elsewhere(settings.host.as_ref(), &settings.kubelet),
    };
    let due = settings.daemon.sweep_is_due(settings.host.as_ref());
    world.sandboxes = match due {
        true => Some(sandboxes::list(settings.host.as_ref(), &settings.root).await),
        false => None,
    };
    ask_for_cdi(settings, world).await;
    follow_mode(settings, world);
    let (daemon, host, seen) = (settings.daemon.clone(), Arc::clone(&settings.host), world.clone());
    // The log is that of this process, also on another thread.
    let log = tracing::dispatcher::get_default(tracing::Dispatch::clone);
    let step = move || {
        let outcome = daemon.step(host.as_ref(), &seen, host.now());
        (daemon, outcome)
    };
    let step = tokio::task::spawn_blocking(move || tracing::dispatcher::with_default(&log, step));
    let (daemon, outcome) = step.await.context("the daemon's step panicked")?;
    settings.daemon = daemon;
    Ok(outcome)
}

/// Has the boot phases as the mode says. What fails is said in the node state, and in the log when it changes.
fn follow_mode(settings: &mut Settings, world: &mut NodeWorld) {
    let (by_mode, now) = (world.config.spec.configuration_mode == SYSTEMD, settings.host.now());
    if !settings.follow.is_due(by_mode, now) {
        return;
    }
    let program = || {
        let path = boot_units::IN_IMAGE;
        (settings.image)(path).map_err(|error| format!("cannot read {path} of our image: {error}"))
    };
    let followed = boot_units::follow(settings.host.as_ref(), by_mode, program);
    settings.follow.note(by_mode, followed.is_ok(), now);
    let said = match followed {
        Ok(true) => "installed".to_owned(),
        Ok(false) => String::new(),
        Err(why) => {
            if world.boot_phases.as_ref() != Some(&why) {
                tracing::warn!("{why}; it is tried again");
            }
            why
        }
    };
    world.boot_phases = Some(said);
}

/// Why the directory that was given to us as the kubelet's is not the one that it uses.
pub fn elsewhere(host: &dyn Host, directory: &Path) -> Option<String> {
    let ours = std::fs::metadata(directory).ok()?;
    kubelet::elsewhere(host, (ours.dev(), ours.ino()))
}

/// Asks the container runtime what it is, and looks at the kubelet's gates, once in a while: either may have been started
/// again with another configuration. A silent runtime is asked again soon, since until it answers nobody knows.
async fn ask_for_cdi(settings: &mut Settings, world: &mut NodeWorld) {
    let now = settings.host.now();
    if !settings.ask.is_due(now) {
        return;
    }
    world.gates = Some(kubelet::gates(settings.host.as_ref(), &cdi::GATES));
    match sandboxes::runtime(settings.host.as_ref(), &settings.root).await {
        Ok(runtime) => {
            settings.ask.answered(now);
            world.runtime = Some(runtime);
            world.silence = String::new();
        }
        // What it said before stands. That nobody can ask it is said in the node state, and in the log once.
        Err(why) => {
            settings.ask.failed(now);
            if why != world.silence {
                tracing::warn!("{why}");
            }
            world.silence = why;
        }
    }
}

/// Sends the writes in order up to the first refusal. True, false: wrote to our node state; was refused.
async fn carry_out(client: &kube::Client, world: &mut NodeWorld, writes: &[Write]) -> (bool, bool) {
    let mut answers = Vec::new();
    for write in writes {
        let (key, is_event) = (write.key(), matches!(write, Write::Event(_)));
        let answer = http::send(client, &write.request(names::DAEMON)).await;
        if !answer.is_done() {
            tracing::warn!("cannot write {key}: {answer}; trying again");
        }
        // An event is news for people, and no reason to hold back what comes after it.
        if is_event {
            continue;
        }
        let refused = !answer.is_done();
        answers.push((key, answer));
        if refused {
            break;
        }
    }
    world.answered(&answers);
    let stored =
        |(key, answer): &(ObjectKey, Answer)| answer.is_done() && key.kind == names::NODE_STATE;
    (answers.iter().any(stored), world.refused.is_some())
}

fn until(outcome: &Outcome, now: Timestamp) -> Duration {
    let Some(at) = outcome.look_again else { return LONGEST };
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}
