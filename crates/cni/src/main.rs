//! The binary that runtimes start as `sriov`, `ib-sriov` or `rdma`: carries environment and stdin to `cni::call`, and
//! the answer back. It does nothing else.

use cni::{Reply, call, refuse};
use host::linux::LinuxHost;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::process::ExitCode;

/// A configuration is a page; what is longer than this is not one.
const LONGEST_INPUT: u64 = 16 << 20;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let argument0 = arguments.next().unwrap_or_default();
    if arguments.any(|argument| matches!(argument.as_str(), "-v" | "-version" | "--version")) {
        return deliver(&Reply {
            stdout: format!("ironrail-cni {}\n", env!("CARGO_PKG_VERSION")).into_bytes(),
            stderr: Vec::new(),
            exit: 0,
        });
    }
    // What is not UTF-8 cannot be a value that the CNI knows; it is refused by name where it matters.
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .map(|(name, value)| {
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        })
        .collect();
    let reply = match input(&environment) {
        Ok(stdin) => match LinuxHost::new("/") {
            Ok(host) => call(&argument0, &environment, &stdin, &host),
            Err(refusal) => refuse(format!("cannot {refusal}")),
        },
        Err(error) => refuse(format!("cannot read stdin: {error}")),
    };
    deliver(&reply)
}

/// VERSION reads nothing, so that a person at a terminal gets an answer.
fn input(environment: &BTreeMap<String, String>) -> std::io::Result<Vec<u8>> {
    let mut stdin = Vec::new();
    if environment.get("CNI_COMMAND").is_some_and(|command| command != "VERSION") {
        std::io::stdin().lock().take(LONGEST_INPUT).read_to_end(&mut stdin)?;
    }
    Ok(stdin)
}

fn deliver(reply: &Reply) -> ExitCode {
    for line in &reply.stderr {
        eprintln!("{line}");
    }
    let mut stdout = std::io::stdout().lock();
    // A runtime that does not read the answer has given up; the exit status still tells.
    if stdout.write_all(&reply.stdout).and_then(|()| stdout.flush()).is_err() {
        return ExitCode::FAILURE;
    }
    if reply.exit == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
