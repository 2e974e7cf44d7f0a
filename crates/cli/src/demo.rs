//! `ironrail demo`: the guide from start to finish on simulated machines.

use playground::demo::{self, Report};
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
    /// Nodes of the cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=250))]
    nodes: u16,

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

/// True when the guide worked.
pub fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Runtime::new()?;
    let options = live::Options { nodes: arguments.nodes.into(), ..live::Options::default() };
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
    let options = demo::Options { patience: Duration::from_secs(arguments.patience) };
    // With --json, standard output holds the one object and nothing else.
    let mut out: Box<dyn io::Write> = match arguments.json {
        true => Box::new(io::stderr()),
        false => Box::new(io::stdout()),
    };
    let report = demo::run(&user, &options, &mut out).await;
    let seconds: f64 = report.steps.iter().map(|step| step.seconds).sum();
    let verdict = match report.ok() {
        true => "The guide works from start to finish",
        false => "The guide did NOT work",
    };
    writeln!(out, "\n{verdict}: {} nodes, {seconds:.1} s.", report.nodes.len())?;
    Ok(report)
}
