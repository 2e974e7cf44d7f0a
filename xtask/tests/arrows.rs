//! The walls of the house, as design.md section 3 draws them: which crate may depend on which, and what may never
//! stand below one. Read from `cargo metadata`, so that no list in a document can be wrong.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Each crate of ours with those of ours that it may name in its Cargo.toml, in any kind of dependency.
const ARROWS: [(&str, &[&str]); 9] = [
    ("api", &[]),
    ("planner", &["api"]),
    ("host", &["api"]),
    ("cni", &["api", "host"]),
    ("node", &["api", "host", "planner"]),
    ("operator", &["api", "planner"]),
    ("playground", &["api", "cni", "host", "node", "operator", "planner"]),
    ("cli", &["api", "cni", "host", "node", "operator", "planner", "playground"]),
    ("xtask", &[]),
];

/// What may not be in the normal dependency tree of a crate, and so not in its binaries.
const ABSENT: [(&str, &[&str]); 5] = [
    ("api", &["kube", "k8s-openapi", "schemars", "tokio", "tonic", "axum", "rustix"]),
    (
        "planner",
        &["kube", "k8s-openapi", "schemars", "tokio", "tonic", "axum", "rustix", "fastrand"],
    ),
    ("host", &["kube", "k8s-openapi", "schemars", "tokio", "tonic", "axum", "planner"]),
    ("cni", &["kube", "k8s-openapi", "schemars", "tokio", "tonic", "axum", "planner", "clap"]),
    ("operator", &["tonic", "host", "netlink-sys"]),
];

fn metadata() -> Metadata {
    // `--locked`: a test does not change the lock file. One platform: packages of the others are never downloaded by a
    // build, and asking for them would need a network.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .other_options(["--locked", "--filter-platform", &platform].map(str::to_owned).to_vec())
        .exec()
        .expect("cargo metadata reads the workspace")
}

/// Ours by name, each with the crates of ours that it names.
fn drawn(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let ours: BTreeSet<String> =
        metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    let named = |package: &&cargo_metadata::Package| {
        let dependencies = package.dependencies.iter().map(|dependency| dependency.name.clone());
        dependencies.filter(|name| ours.contains(name)).collect()
    };
    let packages = metadata.workspace_packages();
    packages.iter().map(|package| (package.name.to_string(), named(package))).collect()
}

/// Every arrow that is drawn and not allowed, and every crate that is new or gone, as sentences.
fn violations(drawn: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let mut found = Vec::new();
    for (from, targets) in drawn {
        let Some(may) = allowed.get(from.as_str()) else {
            found.push(format!(
                "{from} is not in the list of crates; add it with the arrows it may have"
            ));
            continue;
        };
        let bad = targets.iter().filter(|to| !may.contains(&to.as_str()));
        found.extend(bad.map(|to| format!("{from} may not depend on {to}")));
    }
    let gone = allowed.keys().filter(|name| !drawn.contains_key(**name));
    found.extend(
        gone.map(|name| format!("{name} is in the list of crates and not in the workspace")),
    );
    found
}

/// Names of everything below a package over normal dependencies.
fn normal_tree(metadata: &Metadata, root: &str) -> BTreeSet<String> {
    let resolve = metadata.resolve.as_ref().expect("metadata was asked with dependencies");
    let nodes: BTreeMap<&PackageId, _> =
        resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let start = metadata.packages.iter().find(|package| package.name == root);
    let mut waiting = vec![&start.expect("the crate is in the workspace").id];
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !seen.insert(id) {
            continue;
        }
        let normal = nodes[id].deps.iter().filter(|dependency| {
            dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal)
        });
        waiting.extend(normal.map(|dependency| &dependency.pkg));
    }
    seen.into_iter().map(|id| metadata[id].name.to_string()).collect()
}

#[test]
fn every_arrow_between_our_crates_is_one_that_the_design_draws() {
    assert_eq!(violations(&drawn(&metadata())), Vec::<String>::new());
}

#[test]
fn what_a_crate_must_not_carry_is_not_in_its_normal_dependencies() {
    let metadata = metadata();
    for (name, absent) in ABSENT {
        let tree = normal_tree(&metadata, name);
        let found: Vec<_> = absent.iter().filter(|banned| tree.contains(**banned)).collect();
        assert!(found.is_empty(), "{name} depends on {found:?}, directly or through another crate");
    }
}

#[test]
fn the_tree_walk_sees_dependencies_of_dependencies() {
    // Proves that the test above can fail: these are there, two steps down.
    let tree = normal_tree(&metadata(), "cni");
    for name in ["host", "rustix", "serde_core"] {
        assert!(tree.contains(name), "{name} is not found below cni");
    }
}

/// Dependencies with their features, as a build of the whole workspace has them; `edges` are the kinds that count.
fn features(edges: &str) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "tree",
        "--workspace",
        "--locked",
        "--offline",
        "--prefix=none",
        "--format={p} {f}",
    ]);
    let output = cargo.args(["--no-dedupe", "--edges", edges]).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .expect("cargo writes text")
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn tests_ask_for_no_feature_that_programs_do_not_so_dependencies_are_compiled_once() {
    let with_tests = features("normal,build,dev");
    let twice: Vec<String> = features("normal,build")
        .into_iter()
        .filter(|dependency| !dependency.is_empty() && !with_tests.contains(dependency))
        .collect();
    assert!(
        twice.is_empty(),
        "these have more features in tests; add them in xtask/Cargo.toml: {twice:#?}"
    );
}

#[test]
fn no_crate_has_a_build_script() {
    for package in metadata().workspace_packages() {
        let scripts = package.targets.iter().filter(|target| target.is_custom_build());
        assert_eq!(
            scripts.count(),
            0,
            "{} has a build script; generated code is committed",
            package.name
        );
    }
}

#[test]
fn a_forbidden_arrow_is_named() {
    let mut drawn: BTreeMap<String, BTreeSet<String>> =
        ARROWS.iter().map(|(name, _)| ((*name).to_owned(), BTreeSet::new())).collect();
    drawn.get_mut("planner").expect("planner is in the list").insert("host".to_owned());
    drawn.remove("cni");
    drawn.insert("common".to_owned(), BTreeSet::new());
    expect_test::expect![[r#"
        common is not in the list of crates; add it with the arrows it may have
        planner may not depend on host
        cni is in the list of crates and not in the workspace"#]]
    .assert_eq(&violations(&drawn).join("\n"));
}
