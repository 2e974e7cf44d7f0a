//! Builds the operator's `Process` from the real world: arguments, environment, cluster, standard output, signals.

use anyhow::Context;
use clap::Parser;
use operator::process::{self, Arguments, Process};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    // Help, version and mistakes in the arguments are answered before anything else is needed.
    Arguments::parse();
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ironrail-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let cluster = kube::Config::infer()
            .await
            .context("cannot reach a cluster: run inside one, or name one by KUBECONFIG")?;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            // The receiver is gone only when the process has ended.
            let _ = stop.send(true);
        });
        let text = |word: std::ffi::OsString| word.to_string_lossy().into_owned();
        process::run(Process {
            arguments: std::env::args_os().map(text).collect(),
            environment: std::env::vars_os()
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
            cluster,
            listen: None,
            log: Box::new(std::io::stdout()),
            stop: stopped,
        })
        .await
    })
}
