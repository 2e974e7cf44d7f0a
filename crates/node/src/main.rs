//! Builds the node's `Process` from the real world: arguments, environment, cluster, kernel, standard output, signals.

#![allow(clippy::disallowed_methods, reason = "the main is where the real world comes in")]

use anyhow::Context;
use clap::Parser;
use host::linux::LinuxHost;
use node::process::{self, Arguments, Command, Process};
use node::programs;
use node::wake::Pace;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Where the DaemonSets mount the host's root directory; `HOST_ROOT` says otherwise.
const HOST_ROOT: &str = "/host";
/// Where they mount the kubelet's directory; `KUBELET_DIRECTORY` says otherwise.
const KUBELET: &str = "/var/lib/kubelet";

fn main() -> ExitCode {
    if let Some(code) = as_a_tool() {
        return code;
    }
    // Help, version and mistakes in the arguments are answered before anything else is needed.
    let arguments = Arguments::parse();
    match start(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ironrail-node: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Called as `cat` or `rdma`, as our image has it: looks from where it stands, which is the container.
fn as_a_tool() -> Option<ExitCode> {
    let words = words();
    let (program, arguments) = words.split_first()?;
    let name = program.rsplit('/').next().filter(|name| programs::NAMES.contains(name))?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let finished = match LinuxHost::new("/") {
        Ok(host) => programs::run(&host, name, &arguments)?,
        Err(error) => programs::Finished::failed(format!("{name}: {error}\n"), 1),
    };
    // Whoever reads may have seen enough and be gone.
    let _ = std::io::stdout().write_all(&finished.stdout);
    let _ = std::io::stderr().write_all(finished.stderr.as_bytes());
    Some(ExitCode::from(u8::try_from(finished.status).unwrap_or(1)))
}

/// The command line; what is not text in it is no word of ours.
fn words() -> Vec<String> {
    std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

fn start(arguments: &Arguments) -> anyhow::Result<()> {
    let text = |word: std::ffi::OsString| word.to_string_lossy().into_owned();
    let environment: BTreeMap<String, String> =
        std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
    let or = |name: &str, default: &str| {
        environment.get(name).cloned().unwrap_or_else(|| default.to_owned())
    };
    let root = or("HOST_ROOT", HOST_ROOT);
    let host = LinuxHost::new(&root).with_context(|| {
        format!("cannot use {root} as the host's root directory; mount it there or set HOST_ROOT")
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let process = Process {
            arguments: words(),
            cluster: cluster(arguments).await?,
            host: Arc::new(host),
            kubelet: PathBuf::from(or("KUBELET_DIRECTORY", KUBELET)),
            root: PathBuf::from(root),
            pace: Pace::Events,
            image: Box::new(|path| std::fs::read(path)),
            log: Box::new(std::io::stdout()),
            stop: stop()?,
            environment: environment.clone(),
        };
        process::run(process).await
    })
}

/// Only the daemon talks to the API server.
async fn cluster(arguments: &Arguments) -> anyhow::Result<Option<kube::Config>> {
    match arguments.command {
        Command::Daemon { .. } => {
            let cluster = kube::Config::infer()
                .await
                .context("cannot reach a cluster: run inside one, or name one by KUBECONFIG")?;
            Ok(Some(cluster))
        }
        Command::DevicePlugin { .. }
        | Command::InstallCni { .. }
        | Command::Boot { .. }
        | Command::InstallBoot { .. }
        | Command::RemoveBoot { .. } => Ok(None),
    }
}

fn stop() -> std::io::Result<watch::Receiver<bool>> {
    let (stop, stopped) = watch::channel(false);
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
    Ok(stopped)
}
