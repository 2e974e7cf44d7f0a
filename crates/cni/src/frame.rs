//! The frame that all plugins share: environment and configuration in, a verb to run out.
//!
//! Everything that can be refused without looking at the machine is refused here, before a plugin runs.

use crate::failure::{self, Failure};
use crate::log::Log;
use crate::version::Version;
use host::fields::Fields;
use host::{Host, Namespace};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What the runtime asks for (`CNI_COMMAND`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Verb {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "ADD" => Self::Add,
            "DEL" => Self::Del,
            "CHECK" => Self::Check,
            "GC" => Self::Gc,
            "STATUS" => Self::Status,
            "VERSION" => Self::Version,
            _ => return None,
        })
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    /// Variables without which the verb makes no sense. DEL without a namespace means that it is gone.
    fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Add | Self::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
            Self::Del => &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
            Self::Gc | Self::Status => &["CNI_PATH"],
            Self::Version => &[],
        }
    }

    /// The version of the specification that brought the verb.
    fn since(self) -> Version {
        match self {
            Self::Check => Version::V0_4_0,
            Self::Gc | Self::Status => Version::V1_1_0,
            Self::Add | Self::Del | Self::Version => Version::V0_1_0,
        }
    }
}

/// One call of a plugin, its input checked.
pub struct Call<'a> {
    pub host: &'a dyn Host,
    pub log: &'a Log,
    pub verb: Verb,
    pub environment: &'a BTreeMap<String, String>,
    /// `CNI_CONTAINERID`; empty for GC and STATUS.
    pub container: &'a str,
    /// `CNI_NETNS`; empty when the runtime gave none.
    pub namespace: &'a str,
    /// `CNI_IFNAME`; empty for GC and STATUS.
    pub interface: &'a str,
    pub stdin: &'a [u8],
    pub version: Version,
    /// `name` of the network.
    pub network: &'a str,
    pub configuration: &'a Map<String, Value>,
}

impl<'a> Call<'a> {
    pub fn fields(&self) -> Fields<'a> {
        Fields::new(self.configuration)
    }

    pub fn pod(&self) -> Namespace {
        Namespace::At(self.namespace.to_owned())
    }

    pub fn variable(&self, name: &str) -> &'a str {
        self.environment.get(name).map_or("", String::as_str)
    }
}

/// Which verb the environment asks for, after all complaints about the environment at once.
pub fn verb(environment: &BTreeMap<String, String>) -> Result<Verb, Failure> {
    let variable = |name: &str| environment.get(name).map_or("", String::as_str);
    let command = variable("CNI_COMMAND");
    if command.is_empty() {
        return Err(Failure::new(
            failure::ENVIRONMENT,
            "required env variables [CNI_COMMAND] missing",
        ));
    }
    let verb = Verb::parse(command).ok_or_else(|| {
        Failure::new(
            failure::ENVIRONMENT,
            format!("CNI_COMMAND {command:?} is none of ADD, DEL, CHECK, GC, STATUS, VERSION"),
        )
    })?;
    let mut complaints = Vec::new();
    let missing: Vec<&str> =
        verb.needs().iter().copied().filter(|name| variable(name).is_empty()).collect();
    if !missing.is_empty() {
        complaints.push(format!("required env variables [{}] missing", missing.join(",")));
    }
    if verb.needs().contains(&"CNI_CONTAINERID") {
        let container = variable("CNI_CONTAINERID");
        if !container.is_empty() && !is_name(container) {
            complaints.push(format!(
                "CNI_CONTAINERID {container:?} must begin with a letter or digit and hold only \
                 letters, digits, '_', '.' and '-'"
            ));
        }
        let interface = variable("CNI_IFNAME");
        if !interface.is_empty() {
            complaints.extend(interface_complaint(interface));
        }
    }
    if complaints.is_empty() {
        Ok(verb)
    } else {
        Err(Failure::new(failure::ENVIRONMENT, complaints.join("; ")))
    }
}

/// The configuration on stdin as an object.
pub fn configuration(stdin: &[u8]) -> Result<Map<String, Value>, Failure> {
    match serde_json::from_slice(stdin) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Failure::new(
            failure::DECODE,
            "the network configuration on stdin is not a JSON object",
        )),
        Err(error) => Err(Failure::new(
            failure::DECODE,
            format!("cannot read the network configuration on stdin: {error}"),
        )),
    }
}

/// The network's name and version, once the verb is known to exist in that version.
pub fn network<'a>(verb: Verb, fields: &Fields<'a>) -> Result<(&'a str, Version), Failure> {
    let version = Version::parse(fields.text("cniVersion")?)?;
    let name = fields.text("name")?;
    if name.is_empty() {
        return Err(Failure::configuration("missing network name"));
    }
    if !is_name(name) {
        return Err(Failure::configuration(format!(
            "network name {name:?} must begin with a letter or digit and hold only letters, \
             digits, '_', '.' and '-'"
        )));
    }
    if version < verb.since() {
        return Err(Failure::new(
            failure::INCOMPATIBLE_VERSION,
            format!(
                "config version does not allow {}: {version} is older than {}",
                verb.word(),
                verb.since()
            ),
        ));
    }
    Ok((name, version))
}

/// Refuses to work on the namespace that the plugin itself runs in, which would be the host's.
///
/// Upstream's frame finds this out after the work; by then the interface has its new name.
pub fn refuse_own_namespace(call: &Call) -> Result<(), Failure> {
    let overridden = matches!(call.variable("CNI_NETNS_OVERRIDE"), "1" | "true" | "TRUE" | "True");
    // What DEL brings home it finds by the journal, so there the namespace does not matter.
    let matters = matches!(call.verb, Verb::Add | Verb::Check);
    if overridden || !matters || call.namespace.is_empty() {
        return Ok(());
    }
    let Ok(asked) = call.host.metadata(call.namespace) else { return Ok(()) };
    for own in ["/proc/self/ns/net", "/proc/1/ns/net"] {
        let same = call
            .host
            .metadata(own)
            .is_ok_and(|own| (own.device, own.inode) == (asked.device, asked.inode));
        if same {
            return Err(Failure::new(
                failure::NAMESPACE,
                format!(
                    "CNI_NETNS {} is the host's own network namespace; a pod needs one of its own",
                    call.namespace
                ),
            ));
        }
    }
    Ok(())
}

/// The rule of the CNI specification for container ids and network names.
fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// The kernel's rule for interface names (`dev_valid_name`).
fn interface_complaint(name: &str) -> Option<String> {
    let reason = if name.len() > 15 {
        "is longer than 15 bytes"
    } else if name == "." || name == ".." {
        "is a directory's name"
    } else if name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) {
        "holds a '/', a ':' or white space"
    } else {
        return None;
    };
    Some(format!("CNI_IFNAME {name:?} {reason}"))
}
