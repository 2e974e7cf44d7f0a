//! `ironrail demo`: the guide and other stories, from start to finish on simulated machines.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use playground::demo::{self, Report, Scenario};
use playground::live::{self, Playground};
use std::io;
use std::time::Duration;

/// Run the RDMA guide on simulated machines and show what happens
///
/// Applies the four manifests of docs/tutorial/rdma-configuration.md to a cluster in memory, tells each step of
/// each node, and runs the guide's commands. Ends with status 0 only when the pod runs, in exclusive mode, with
/// exactly one RDMA device that no other pod and no host sees.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// Which story to tell
    #[arg(long, value_name = "NAME", default_value = "guide", value_parser = scenarios())]
    scenario: Scenario,

    /// Nodes of the cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=250))]
    nodes: u16,

    /// Nodes of the pool that may be disturbed at a time: a number or a percentage such as 10%; the guide says 1
    #[arg(long, value_name = "LIMIT", value_parser = limit)]
    max_unavailable: Option<String>,

    /// End with one line of JSON; the story goes to standard error
    #[arg(long)]
    json: bool,

    /// Keep the cluster running afterwards, for kubectl, until Ctrl-C
    #[arg(long)]
    keep: bool,

    /// Seconds that one step may take
    #[arg(long, default_value_t = 60)]
    patience: u64,
}

/// The names of the stories, with a line of each in `--help`.
fn scenarios() -> impl TypedValueParser<Value = Scenario> {
    let names = Scenario::ALL.map(|one| PossibleValue::new(one.name()).help(one.about()));
    PossibleValuesParser::new(names)
        .try_map(|name| Scenario::named(&name).ok_or(format!("there is no scenario {name}")))
}

/// A limit that moves: with 0 the pool is frozen and the guide never ends.
fn limit(text: &str) -> Result<String, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<u32>();
    match (number, text.ends_with('%')) {
        (Ok(1..=100), true) | (Ok(1..), false) => Ok(text.to_owned()),
        _ => Err("write a number of nodes from 1, or a percentage from 1% to 100%".to_owned()),
    }
}

/// True when the story went as it should.
pub fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Runtime::new()?;
    let mut options = live::Options { nodes: arguments.nodes.into(), ..live::Options::default() };
    arguments.scenario.prepare(&mut options);
    let playground = runtime.block_on(Playground::start(options))?;
    let report = runtime.block_on(tell(&playground, arguments))?;
    if arguments.json {
        println!("{}", report.to_json());
    }
    if arguments.keep {
        crate::playground::serve(&runtime, &playground, None)?;
    }
    Ok(report.ok())
}

async fn tell(playground: &Playground, arguments: &Arguments) -> anyhow::Result<Report> {
    let user = playground.admin()?;
    let options = demo::Options {
        scenario: arguments.scenario,
        patience: Duration::from_secs(arguments.patience),
        max_unavailable: arguments.max_unavailable.clone(),
        hands: Some(playground.hands()),
    };
    // With --json, standard output holds the one object and nothing else.
    let mut out: Box<dyn io::Write> = match arguments.json {
        true => Box::new(io::stderr()),
        false => Box::new(io::stdout()),
    };
    let report = demo::run(&user, &options, &mut out).await;
    let seconds: f64 = report.steps.iter().map(|step| step.seconds).sum();
    let verdict = arguments.scenario.verdict(report.ok());
    writeln!(out, "\n{verdict}: {} nodes, {seconds:.1} s.", report.nodes.len())?;
    Ok(report)
}
