//! `ironrail`: the command for people. Each subcommand is one file; this one only reads the arguments.

mod demo;
mod playground;

use clap::{CommandFactory, Parser, Subcommand};
use std::io;
use std::process::ExitCode;

/// RDMA and SR-IOV networking for Kubernetes.
///
/// No cluster and no card at hand? `ironrail demo` shows the whole guide on simulated machines, and
/// `ironrail playground` gives you a cluster of them to use with kubectl.
#[derive(Debug, Parser)]
#[command(name = "ironrail", version, verbatim_doc_comment)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Arguments),
    Playground(playground::Arguments),
    /// Print completions for your shell
    ///
    /// For bash: source <(ironrail completions bash)
    #[command(verbatim_doc_comment)]
    Completions {
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Playground(arguments) => playground::run(&arguments),
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Arguments::command(),
                "ironrail",
                &mut io::stdout(),
            );
            Ok(true)
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ironrail: {error:#}");
            ExitCode::FAILURE
        }
    }
}
