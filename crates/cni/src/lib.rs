//! The CNI plugins `sriov`, `ib-sriov` and `rdma` as one function: environment and stdin in, answer out.
//!
//! No process state is read or changed here: the machine is the seam's, the environment an argument. The binary
//! (`main.rs`) only carries both. Whatever has been changed on the machine is journalled first.

mod announce;
mod arguments;
mod cdi;
mod custody;
pub mod failure;
mod frame;
mod ib_sriov;
mod ipam;
mod legacy;
mod log;
mod outcome;
mod pod;
mod rdma;
mod sriov;
mod version;

use failure::Failure;
use frame::{Call, Verb};
use host::Host;
use host::seam::{Errno, FileKind, Refusal};
use log::Log;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use version::Version;

/// What the process answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub stdout: Vec<u8>,
    /// Lines for stderr, without line ends.
    pub stderr: Vec<String>,
    /// The exit status.
    pub exit: i32,
}

/// The plugins that live in this program, told apart by the name under which it was installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plugin {
    Sriov,
    IbSriov,
    Rdma,
}

impl Plugin {
    /// By the last component of argv[0].
    pub fn of(argument0: &str) -> Option<Self> {
        match argument0.rsplit('/').next().unwrap_or(argument0) {
            "sriov" => Some(Self::Sriov),
            "ib-sriov" => Some(Self::IbSriov),
            "rdma" => Some(Self::Rdma),
            _ => None,
        }
    }
}

/// The answer of a program that cannot even begin: an I/O error in the CNI's own form.
pub fn refuse(message: impl Into<String>) -> Reply {
    let failure = Failure::new(failure::IO, message);
    Reply { stdout: line(&failure.json(None)), stderr: vec![failure.message], exit: 1 }
}

/// Runs one verb of the plugin named by `argument0`.
pub fn call(
    argument0: &str,
    environment: &BTreeMap<String, String>,
    stdin: &[u8],
    host: &dyn Host,
) -> Reply {
    let log = Log::new();
    let mut version = None;
    let answer = answer(argument0, environment, stdin, host, &log, &mut version);
    let (stdout, exit) = match answer {
        Ok(None) => (Vec::new(), 0),
        Ok(Some(value)) => (line(&value), 0),
        Err(failure) => {
            log.error(&failure.message);
            (line(&failure.json(version.map(Version::text))), 1)
        }
    };
    Reply { stdout, stderr: deliver(host, log), exit }
}

fn answer(
    argument0: &str,
    environment: &BTreeMap<String, String>,
    stdin: &[u8],
    host: &dyn Host,
    log: &Log,
    version: &mut Option<Version>,
) -> Result<Option<Value>, Failure> {
    let verb = frame::verb(environment)?;
    if verb == Verb::Version {
        let supported = Version::ALL.map(Version::text);
        return Ok(Some(
            json!({"cniVersion": Version::NEWEST.text(), "supportedVersions": supported}),
        ));
    }
    let configuration = frame::configuration(stdin)?;
    let fields = host::fields::Fields::new(&configuration);
    let (network, found) = frame::network(verb, &fields)?;
    *version = Some(found);
    let variable = |name: &str| environment.get(name).map_or("", String::as_str);
    let of_a_pod = !matches!(verb, Verb::Gc | Verb::Status);
    let pod_variable = |name: &str| if of_a_pod { variable(name) } else { "" };
    let call = Call {
        host,
        log,
        verb,
        environment,
        container: pod_variable("CNI_CONTAINERID"),
        namespace: pod_variable("CNI_NETNS"),
        interface: pod_variable("CNI_IFNAME"),
        stdin,
        version: found,
        network,
        configuration: &configuration,
    };
    let plugin = Plugin::of(argument0).ok_or_else(|| {
        Failure::new(
            failure::ENVIRONMENT,
            format!(
                "no plugin is named {argument0:?}; install this program as sriov, ib-sriov or rdma"
            ),
        )
    })?;
    frame::refuse_own_namespace(&call)?;
    run(plugin, &call)
}

fn line(value: &Value) -> Vec<u8> {
    let mut text = value.to_string().into_bytes();
    text.push(b'\n');
    text
}

fn run(plugin: Plugin, call: &Call) -> Result<Option<Value>, Failure> {
    match (plugin, call.verb) {
        (Plugin::Sriov, Verb::Add) => sriov::add(call),
        (Plugin::Sriov, Verb::Del) => sriov::del(call),
        (Plugin::Sriov, Verb::Check) => sriov::check(call),
        (Plugin::Sriov, Verb::Gc) => sriov::gc(call),
        (Plugin::Sriov, Verb::Status) => sriov::status(call),
        (Plugin::IbSriov, Verb::Add) => ib_sriov::add(call),
        (Plugin::IbSriov, Verb::Del) => ib_sriov::del(call),
        (Plugin::IbSriov, Verb::Check) => ib_sriov::check(call),
        (Plugin::IbSriov, Verb::Gc) => ib_sriov::gc(call),
        (Plugin::IbSriov, Verb::Status) => ib_sriov::status(call),
        (Plugin::Rdma, Verb::Add) => rdma::add(call),
        (Plugin::Rdma, Verb::Del) => rdma::del(call),
        (Plugin::Rdma, Verb::Check) => rdma::check(call),
        (Plugin::Rdma, Verb::Gc) => rdma::gc(call),
        (Plugin::Rdma, Verb::Status) => rdma::status(call),
        // Answered before the configuration was read.
        (_, Verb::Version) => Ok(None),
    }
}

/// Hands the log over: lines for stderr, unless the configuration names a file that can be written.
fn deliver(host: &dyn Host, log: Log) -> Vec<String> {
    let (file, lines) = log.finish();
    // `/dev/stderr` and `/dev/null` are popular, and must not be replaced by a file.
    let ordinary = host.metadata(&file).map_or(true, |found| found.kind == FileKind::File);
    if file.is_empty() || lines.is_empty() || !ordinary {
        return lines;
    }
    let content: String = lines.iter().map(|line| format!("{line}\n")).collect();
    // Plugins of many pods end at once, and none may write over what another has written.
    match keep_short(host, &file).and_then(|()| append(host, &file, content.as_bytes())) {
        Ok(()) => Vec::new(),
        Err(refusal) => {
            let mut lines = lines;
            lines.push(format!("warning: logFile: cannot {refusal}"));
            lines
        }
    }
}

/// Adds to the end of the file; one that is not there is made, and so is its directory.
fn append(host: &dyn Host, file: &str, content: &[u8]) -> Result<(), Refusal> {
    match host.append(file, content) {
        Err(refusal) if refusal.errno == Errno::NOENT => host.replace(file, content, 0o644),
        done => done,
    }
}

/// A log file of ours does not grow without end: the older half goes.
fn keep_short(host: &dyn Host, file: &str) -> Result<(), Refusal> {
    if host.metadata(file).map_or(0, |found| found.size) <= LOG_LIMIT {
        return Ok(());
    }
    let content = host.read(file)?;
    host.replace(file, &content[content.len() / 2..], 0o644)
}

/// Bytes of a `logFile` beyond which its older half is dropped.
const LOG_LIMIT: u64 = 1 << 20;
