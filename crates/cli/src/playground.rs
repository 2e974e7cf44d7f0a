//! `ironrail playground`: a cluster of simulated machines for kubectl, until Ctrl-C.

use anyhow::Context;
use playground::live::{Options, Playground};
use std::path::{Path, PathBuf};
use tokio::runtime::Runtime;

/// Serve a cluster of simulated machines for kubectl until Ctrl-C
///
/// ironrail is installed in it from the manifests that a real cluster gets. It listens on this computer only, runs
/// none of its programs, and leaves nothing behind.
///
///   ironrail playground --kubeconfig playground.yaml &
///   export KUBECONFIG=playground.yaml
///   kubectl get nodes
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// Nodes of the cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=250))]
    nodes: u16,

    /// Where to write the kubeconfig; without it, a temporary file that is named at the start
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let runtime = Runtime::new()?;
    let options = Options { nodes: arguments.nodes.into(), ..Options::default() };
    let playground = runtime.block_on(Playground::start(options))?;
    serve(&runtime, &playground, arguments.kubeconfig.as_deref())?;
    Ok(true)
}

/// Tells how to reach the cluster and waits for Ctrl-C.
pub fn serve(
    runtime: &Runtime,
    playground: &Playground,
    file: Option<&Path>,
) -> anyhow::Result<()> {
    let path = match file {
        Some(path) => path.to_owned(),
        None => playground.directory().join("kubeconfig"),
    };
    std::fs::write(&path, playground.kubeconfig())
        .with_context(|| format!("cannot write the kubeconfig to {}", path.display()))?;
    println!("The playground serves at {}; Ctrl-C ends it.", playground.address());
    println!("\n  export KUBECONFIG={}\n  kubectl get nodes", path.display());
    runtime.block_on(tokio::signal::ctrl_c())?;
    Ok(())
}
