//! Delegation of addresses to an IPAM plugin: another program with the same contract, found in `CNI_PATH`.

use crate::failure::{self, Failure};
use crate::frame::{Call, Verb};
use crate::outcome::Outcome;
use crate::version::Version;
use host::seam::{FileKind, Program};
use serde_json::Value;

/// Variables that an IPAM plugin is started with, if they are set.
const PASSED: [&str; 7] = [
    "CNI_CONTAINERID",
    "CNI_NETNS",
    "CNI_IFNAME",
    "CNI_ARGS",
    "CNI_PATH",
    "CNI_NETNS_OVERRIDE",
    "PATH",
];

/// The IPAM plugin of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipam {
    pub kind: String,
}

impl Ipam {
    /// None where the configuration has no `ipam.type`.
    pub fn read(call: &Call) -> Result<Option<Self>, Failure> {
        let ipam = call.fields().nested("ipam")?;
        let kind = ipam.text("type")?;
        if kind.is_empty() {
            return Ok(None);
        }
        // The name becomes a file name below CNI_PATH and must not lead out of it.
        if kind.contains('/') || kind.starts_with('.') {
            return Err(Failure::configuration(format!(
                "ipam.type {kind:?} is not the name of a plugin"
            )));
        }
        Ok(Some(Self { kind: kind.to_owned() }))
    }

    /// Asks for addresses. Every one of them is for the only interface of the result.
    pub fn add(&self, call: &Call) -> Result<Outcome, Failure> {
        let stdout = self.run(call, Verb::Add)?;
        let value: Value = serde_json::from_slice(&stdout).map_err(|error| {
            Failure::new(
                failure::DECODE,
                format!("IPAM plugin {} answered no JSON: {error}", self.kind),
            )
        })?;
        let what = format!("the answer of IPAM plugin {}", self.kind);
        let mut outcome = Outcome::parse(&value, call.version, &what)?;
        if outcome.ips.is_empty() {
            return Err(Failure::internal(format!(
                "IPAM plugin {} returned no address",
                self.kind
            )));
        }
        outcome.interfaces.clear();
        for ip in &mut outcome.ips {
            ip.interface = Some(0);
        }
        Ok(outcome)
    }

    /// Gives the addresses back; one that is not given out any more is no error there.
    pub fn del(&self, call: &Call) -> Result<(), Failure> {
        self.run(call, Verb::Del).map(|_| ())
    }

    /// Passes a verb on that has no answer: CHECK, and from 1.1.0 GC and STATUS.
    pub fn pass(&self, call: &Call) -> Result<(), Failure> {
        self.run(call, call.verb).map(|_| ())
    }

    fn run(&self, call: &Call, verb: Verb) -> Result<Vec<u8>, Failure> {
        let mut environment = vec![format!("CNI_COMMAND={}", verb.word())];
        environment.extend(PASSED.iter().filter_map(|name| {
            let value = call.variable(name);
            (!value.is_empty()).then(|| format!("{name}={value}"))
        }));
        let program = Program::Ipam { path: self.find(call)?, environment };
        let output = call.host.run(&program, &[], call.stdin).map_err(|refusal| {
            Failure::internal(format!(
                "cannot run IPAM plugin {} for {}: {}",
                self.kind,
                verb.word(),
                refusal.reason()
            ))
        })?;
        if output.status == 0 {
            return Ok(output.stdout);
        }
        Err(self.failure(verb, output.status, &output.stdout, &output.stderr))
    }

    /// Keeps the code that the plugin answered with, because the runtime acts on it.
    fn failure(&self, verb: Verb, status: i32, stdout: &[u8], stderr: &[u8]) -> Failure {
        let answer: Value = serde_json::from_slice(stdout).unwrap_or_default();
        let code = answer["code"].as_u64().unwrap_or(failure::INTERNAL);
        let said = match answer["msg"].as_str() {
            Some(text) => text.to_owned(),
            None => {
                let stderr = String::from_utf8_lossy(stderr);
                let last = stderr.lines().rfind(|line| !line.trim().is_empty());
                last.map_or_else(|| format!("exit status {status}"), str::to_owned)
            }
        };
        let mut failure = Failure::new(
            code,
            format!("IPAM plugin {} failed at {}: {said}", self.kind, verb.word()),
        );
        answer["details"].as_str().unwrap_or_default().clone_into(&mut failure.details);
        failure
    }

    /// Where the plugin is; asked before anything is changed.
    pub fn find(&self, call: &Call) -> Result<String, Failure> {
        let directories = call.variable("CNI_PATH");
        directories
            .split(':')
            .filter(|directory| directory.starts_with('/'))
            .map(|directory| format!("{}/{}", directory.trim_end_matches('/'), self.kind))
            .find(|path| call.host.metadata(path).is_ok_and(|found| found.kind == FileKind::File))
            .ok_or_else(|| {
                Failure::configuration(format!(
                    "there is no IPAM plugin {} in CNI_PATH {directories}; install it, or correct \
                     ipam.type",
                    self.kind
                ))
            })
    }
}

/// The oldest results are lists of addresses: without IPAM they cannot be printed, so nothing must be changed.
pub fn refuse_unprintable(call: &Call, ipam: Option<&Ipam>) -> Result<(), Failure> {
    if ipam.is_some() || call.version >= Version::V0_3_0 {
        return Ok(());
    }
    Err(Failure::configuration(format!(
        "network {}: a result of cniVersion {} is a list of addresses, and without ipam there are \
         none; add ipam, or write cniVersion 0.3.0 or later",
        call.network, call.version
    )))
}
