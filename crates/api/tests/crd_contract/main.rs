//! The CRD YAML in deploy/crds is the contract with users; the Rust types must say the same, and both what upstream says.
//!
//! `facts.txt` holds upstream's schema facts, taken from upstream, and our additions marked `+`: this test compares
//! the YAML with it line by line. The YAML is compared with the Rust types by reading, with every field set, an object
//! made from the schema: what Rust does not know is lost on the way back, and `traced` hears which fields Rust has.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod reference;
mod schema;
mod traced;

use api::crd::Object;
use schema::Crd;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const FACTS: &str = include_str!("facts.txt");

#[test]
fn the_schemas_say_what_upstream_says_and_what_we_add_is_listed() {
    let listed: BTreeSet<&str> = FACTS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.trim_start_matches('+'))
        .collect();
    let crds = schema::all();
    let facts: Vec<String> = crds.iter().flat_map(Crd::facts).collect();
    let found: BTreeSet<&str> = facts.iter().map(String::as_str).collect();
    let missing = listed.difference(&found).map(|line| format!("not so in deploy/crds: {line}"));
    let extra = found.difference(&listed).map(|line| format!("not in facts.txt: {line}"));
    let wrong: Vec<String> = missing.chain(extra).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn what_we_add_has_no_default_and_is_never_required_of_users() {
    // A default would put fields into users' objects that upstream never wrote there.
    for line in FACTS.lines().filter(|line| line.starts_with('+') && line.contains(" .spec")) {
        for word in [" default ", " required", " format "] {
            assert!(!line.contains(word), "{line}");
        }
    }
}

#[test]
fn every_field_of_the_schemas_reads_into_the_rust_types_and_back() {
    every_kind(|crd, round_trip| {
        let sample = crd.sample();
        assert_eq!(round_trip(&sample), Ok(sample), "{}", crd.kind);
    });
}

#[test]
fn every_field_of_the_rust_types_is_known_to_the_schemas() {
    check_fields::<api::policy::SriovNetworkNodePolicy>("SriovNetworkNodePolicy");
    check_fields::<api::nodestate::SriovNetworkNodeState>("SriovNetworkNodeState");
    check_fields::<api::pool::SriovNetworkPoolConfig>("SriovNetworkPoolConfig");
    check_fields::<api::network::SriovNetwork>("SriovNetwork");
    check_fields::<api::network::SriovIBNetwork>("SriovIBNetwork");
    check_fields::<api::network::OVSNetwork>("OVSNetwork");
    check_fields::<api::operatorconfig::SriovOperatorConfig>("SriovOperatorConfig");
    // The NetworkAttachmentDefinition is not ours: its schema has no status, so only its spec is compared.
    check_fields::<Object<api::network::NetworkAttachmentSpec, Value>>(
        "NetworkAttachmentDefinition",
    );
}

#[test]
fn a_policy_with_nothing_set_writes_only_what_the_schema_requires() {
    let empty = serde_json::to_value(api::policy::PolicySpec::default()).unwrap();
    assert_eq!(
        empty,
        json!({ "resourceName": "", "nodeSelector": {}, "numVfs": 0, "nicSelector": {} })
    );
}

#[test]
fn what_the_schema_does_not_know_is_lost_and_so_noticed() {
    // Proves that the tests above can fail.
    let crd = schema::by_kind("SriovNetworkPoolConfig");
    let mut sample = crd.sample();
    sample["spec"]["rdmaMood"] = json!("calm");
    assert_ne!(round_trip::<api::pool::SriovNetworkPoolConfig>(&sample), Ok(sample.clone()));

    let mut fields = traced::fields::<api::pool::SriovNetworkPoolConfig>(&crd.sample());
    fields.get_mut(".spec").unwrap().insert("rdmaMood");
    assert_eq!(
        difference(&crd, &fields),
        ["SriovNetworkPoolConfig .spec.rdmaMood is in the Rust type and not in the schema"]
    );
}

#[test]
fn the_reference_page_is_what_the_schemas_say() {
    expect_test::expect_file!["../../../../docs/reference/api.md"].assert_eq(&reference::page());
}

/// Reads and writes back, as the Rust type of each kind does it.
fn every_kind(check: impl Fn(&Crd, fn(&Value) -> Result<Value, String>)) {
    for crd in schema::all() {
        check(
            &crd,
            match crd.kind.as_str() {
                "SriovNetworkNodePolicy" => round_trip::<api::policy::SriovNetworkNodePolicy>,
                "SriovNetworkNodeState" => round_trip::<api::nodestate::SriovNetworkNodeState>,
                "SriovNetworkPoolConfig" => round_trip::<api::pool::SriovNetworkPoolConfig>,
                "SriovNetwork" => round_trip::<api::network::SriovNetwork>,
                "SriovIBNetwork" => round_trip::<api::network::SriovIBNetwork>,
                "OVSNetwork" => round_trip::<api::network::OVSNetwork>,
                "SriovOperatorConfig" => round_trip::<api::operatorconfig::SriovOperatorConfig>,
                "NetworkAttachmentDefinition" => round_trip_attachment,
                other => panic!("deploy/crds has {other}; give it a Rust type and name it here"),
            },
        );
    }
}

fn round_trip<T: DeserializeOwned + Serialize>(sample: &Value) -> Result<Value, String> {
    let typed: T = serde_json::from_value(sample.clone()).map_err(|error| error.to_string())?;
    serde_json::to_value(&typed).map_err(|error| error.to_string())
}

/// The type writes an empty status, which this kind's schema does not have.
fn round_trip_attachment(sample: &Value) -> Result<Value, String> {
    let mut back = round_trip::<api::network::NetworkAttachmentDefinition>(sample)?;
    let status = back.as_object_mut().and_then(|object| object.shift_remove("status"));
    assert_eq!(status, Some(Value::Null));
    Ok(back)
}

fn check_fields<T: DeserializeOwned>(kind: &str) {
    let crd = schema::by_kind(kind);
    let mut fields = traced::fields::<T>(&crd.sample());
    if kind == "NetworkAttachmentDefinition" {
        fields.entry(String::new()).or_default().remove("status");
    }
    // An enum with fields is read whole, so the tracer cannot ask it; its variants are written instead.
    if kind == "SriovNetworkNodeState" {
        let outcome = BTreeSet::from(["state", "expected", "found"]);
        assert_eq!(outcome_fields(), outcome.iter().map(|name| (*name).to_owned()).collect());
        fields.insert(".status.reboots[].outcome".to_owned(), outcome);
    }
    assert_eq!(difference(&crd, &fields), Vec::<String>::new());
}

fn outcome_fields() -> BTreeSet<String> {
    use api::nodestate::RebootOutcome::{DidNotHelp, Helped, Pending};
    let all = [Pending, Helped, DidNotHelp { expected: "a".into(), found: "b".into() }];
    let mut fields = BTreeSet::new();
    for outcome in &all {
        let written = serde_json::to_value(outcome).unwrap();
        fields.extend(written.as_object().unwrap().keys().cloned());
    }
    fields
}

/// Fields that only the schema or only the Rust type has, as sentences.
fn difference(crd: &Crd, fields: &traced::Fields) -> Vec<String> {
    let mut found = Vec::new();
    for (path, names) in crd.objects() {
        let empty = BTreeSet::new();
        let rust: BTreeSet<String> =
            fields.get(&path).unwrap_or(&empty).iter().map(|name| (*name).to_owned()).collect();
        let lost = names.difference(&rust);
        found.extend(lost.map(|name| {
            format!("{} {path}.{name} is in the schema and not in the Rust type", crd.kind)
        }));
        let unknown = rust.difference(&names);
        found.extend(unknown.map(|name| {
            format!("{} {path}.{name} is in the Rust type and not in the schema", crd.kind)
        }));
    }
    found
}
