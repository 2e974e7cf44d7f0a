//! The tokio driver: watches feed the `Operator`, its steps' writes go to the API, the answers go back.
//!
//! A shell: it owns the client, the clock and the leader's right to write, and decides nothing about the cluster.
//! Everything runs inside one future, so dropping it stops the operator as a crash would.

use crate::controllers::{Operator, Work, goes_on};
use crate::election::{Election, Turn};
use crate::http;
use crate::kinds::KINDS;
use crate::metrics;
use crate::settings::Settings;
use crate::watch::{self, News};
use api::wire::{Answer, Write};
use api::{Timestamp, names};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// Steps whose writes are on their way at one time. Each key has at most one.
const AT_ONCE: usize = 16;
/// How long one write may take before it counts as unanswered.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What others may see of the driver: whether it has listed everything, whether it leads, and what it did.
#[derive(Debug)]
pub struct Gauge {
    pub complete: AtomicBool,
    pub leads: AtomicBool,
    pub steps: AtomicU64,
    pub writes: AtomicU64,
    pub refused: AtomicU64,
    /// Those who ask for the metrics of the world; the loop answers between two steps.
    ask: mpsc::UnboundedSender<oneshot::Sender<String>>,
    asked: Mutex<Option<mpsc::UnboundedReceiver<oneshot::Sender<String>>>>,
}

impl Default for Gauge {
    fn default() -> Self {
        let (ask, asked) = mpsc::unbounded_channel();
        Self {
            complete: AtomicBool::default(),
            leads: AtomicBool::default(),
            steps: AtomicU64::default(),
            writes: AtomicU64::default(),
            refused: AtomicU64::default(),
            ask,
            asked: Mutex::new(Some(asked)),
        }
    }
}

impl Gauge {
    /// The metrics of what the operator knows; None when nobody answers.
    pub async fn world(&self) -> Option<String> {
        let (answer, text) = oneshot::channel();
        self.ask.send(answer).ok()?;
        text.await.ok()
    }

    fn questions(&self) -> mpsc::UnboundedReceiver<oneshot::Sender<String>> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A driver is run once for each gauge; a second one would hear no questions.
        asked.unwrap_or_else(|| mpsc::unbounded_channel().1)
    }
}

/// The monotonic clock of this process and the right to write, shared by the loop and the election.
struct Lead {
    start: Instant,
    until: Mutex<Option<Instant>>,
}

/// Why the driver ended.
#[derive(Debug, thiserror::Error)]
#[error("lost the lease {LEASE} to another operator, or could not renew it in time")]
pub struct LostLease;

const LEASE: &str = crate::election::LEASE;

/// Runs the controllers until the future is dropped or the lease is lost.
pub async fn run(
    client: kube::Client,
    settings: Settings,
    election: &mut Election,
    gauge: &Gauge,
) -> LostLease {
    let (sender, news) = mpsc::channel(1024);
    let watches: Vec<_> = KINDS
        .iter()
        .filter(|kind| !kind.openshift || settings.is_openshift())
        .map(|kind| {
            watch::forever(client.clone(), kind, settings.namespace.clone(), sender.clone())
        })
        .collect();
    let watches = async {
        futures::future::join_all(watches).await;
        std::future::pending::<Infallible>().await
    };
    let lead = Lead { start: monotonic(), until: Mutex::new(None) };
    let operator = Operator::new(settings, wall());
    tokio::select! {
        never = watches => match never {},
        never = work(&client, operator, news, &lead, gauge) => match never {},
        lost = hold(&client, election, &lead, gauge) => lost,
    }
}

/// Takes part in the election for ever; returns when the lease was held and is lost.
async fn hold(
    client: &kube::Client,
    election: &mut Election,
    lead: &Lead,
    gauge: &Gauge,
) -> LostLease {
    loop {
        let now = monotonic() - lead.start;
        let read = within(ANSWER_WITHIN, http::send(client, &election.read())).await;
        match election.step(&read, now, wall()) {
            Turn::Lost => return LostLease,
            Turn::Wait { holder } => tracing::debug!("waiting for the lease, holder {holder}"),
            Turn::Write(write) => {
                let request = write.request(names::OPERATOR);
                let answer = within(ANSWER_WITHIN, http::send(client, &request)).await;
                if election.written(&answer, now) && lead.until().is_none() {
                    tracing::info!("leading: took the lease {LEASE}");
                }
            }
        }
        lead.set(election.may_write_until().map(|end| lead.start + end));
        gauge.leads.store(lead.may_write(), Relaxed);
        // A holder that is cut off ends at its deadline, not at the next try after it.
        let next = monotonic() + election.retry();
        sleep_until(lead.until().map_or(next, |end| end.min(next))).await;
    }
}

/// The loop: news in, steps out.
async fn work(
    client: &kube::Client,
    mut operator: Operator,
    mut news: mpsc::Receiver<(&'static crate::kinds::Kind, News)>,
    lead: &Lead,
    gauge: &Gauge,
) -> Infallible {
    let mut under_way = FuturesUnordered::new();
    let mut questions = gauge.questions();
    loop {
        while lead.may_write() && under_way.len() < AT_ONCE {
            let Some(work) = operator.step(wall()) else { break };
            gauge.steps.fetch_add(1, Relaxed);
            under_way.push(carry_out(client, work, lead, gauge));
        }
        let pause = match operator.due() {
            _ if !lead.may_write() || under_way.len() >= AT_ONCE => Duration::from_millis(100),
            Some(due) => Duration::try_from(due.duration_since(wall())).unwrap_or_default(),
            None => Duration::from_secs(3600),
        };
        tokio::select! {
            Some((kind, news)) = news.recv() => match news {
                News::Listed(objects) => operator.relisted(kind, objects, wall()),
                News::Absent => operator.kind_is_absent(kind, wall()),
                News::Event(event) => operator.watched(&event, wall()),
            },
            Some((work, answers)) = under_way.next() => operator.answered(work, answers, wall()),
            Some(question) = questions.recv() => {
                // Whoever asked may have gone.
                let _ = question.send(metrics::text(&operator.world, &operator.metrics));
            }
            () = sleep(pause) => {}
        }
        gauge.complete.store(operator.world.is_complete(), Relaxed);
    }
}

/// Carries out the writes of one step, in order, until one is refused or the right to write ends.
async fn carry_out(
    client: &kube::Client,
    work: Work,
    lead: &Lead,
    gauge: &Gauge,
) -> (Work, Vec<Answer>) {
    let mut answers = Vec::new();
    for write in &work.writes {
        let request = write.request(names::OPERATOR);
        let answer = match lead.until() {
            Some(end) if lead.may_write() => {
                let end = end.min(monotonic() + ANSWER_WITHIN);
                let sent = timeout_at(end, http::send(client, &request)).await;
                sent.unwrap_or_else(|_| Answer::Unreachable("no answer in time".to_owned()))
            }
            _ => Answer::Unreachable("the lease has to be renewed first".to_owned()),
        };
        tell(write, &answer, gauge);
        let on = goes_on(write, &answer);
        answers.push(answer);
        if !on {
            break;
        }
    }
    (work, answers)
}

/// One line for each change of the world, and for each that was refused.
fn tell(write: &Write, answer: &Answer, gauge: &Gauge) {
    let what = format!("{} {}", verb(write), write.key());
    match (write, answer) {
        (Write::Event(event), _) => tracing::info!(reason = event.reason, "{}", event.message),
        (_, Answer::Done(_)) => {
            gauge.writes.fetch_add(1, Relaxed);
            tracing::info!("{what}");
        }
        // Somebody wrote in between: the next look decides on what is there now.
        (_, Answer::Conflict(_)) => tracing::debug!("cannot {what}: {answer}; looking again"),
        (_, answer) => {
            gauge.refused.fetch_add(1, Relaxed);
            tracing::warn!("cannot {what}: {answer}; trying again");
        }
    }
}

fn verb(write: &Write) -> &'static str {
    match write {
        Write::Apply { subresource: "status", .. }
        | Write::Update { subresource: "status", .. } => "update status of",
        Write::Apply { .. } => "apply",
        Write::Create { .. } => "create",
        Write::Update { .. } => "update",
        Write::Patch { .. } => "patch",
        Write::Delete { .. } => "delete",
        Write::Evict { .. } => "evict",
        Write::Event(_) => "record event of",
    }
}

impl Lead {
    fn may_write(&self) -> bool {
        self.until().is_some_and(|end| monotonic() < end)
    }

    fn until(&self) -> Option<Instant> {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, until: Option<Instant>) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

async fn within(limit: Duration, answer: impl Future<Output = Answer>) -> Answer {
    let answer = tokio::time::timeout(limit, answer).await;
    answer.unwrap_or_else(|_| Answer::Unreachable("no answer in time".to_owned()))
}

/// The wall clock, for what people read and for times that outlive the process.
#[allow(clippy::disallowed_methods)] // One of the two places where the operator asks for the time.
pub(crate) fn wall() -> Timestamp {
    Timestamp::now()
}

/// This process's own clock, for the lease.
#[allow(clippy::disallowed_methods)] // The other one.
fn monotonic() -> Instant {
    Instant::now()
}
