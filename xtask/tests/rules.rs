//! Rules of the code that no lint of rustc or clippy can say of a module: read from the source files themselves.
//!
//! Comments and test modules are left out. A rule that makes a line worse is mended here, with its reason.

use std::fs;
use std::path::{Path, PathBuf};

/// What would make a step unrepeatable: a map whose order changes, a clock, an environment, randomness of its own, a runtime.
const UNREPEATABLE: [&str; 8] = [
    "HashMap",
    "HashSet",
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "std::env::",
    "fastrand::Rng::new()",
    "tokio::",
];

/// Where steps live, and what they are made of. A name that ends in `/` is a directory.
const STEPS: [&str; 9] = [
    "crates/api/src/",
    "crates/planner/src/",
    "crates/host/src/",
    "crates/cni/src/lib.rs",
    "crates/operator/src/steps/",
    "crates/operator/src/world.rs",
    "crates/operator/src/controllers.rs",
    "crates/playground/src/store/",
    "crates/playground/src/cluster/",
];

/// The real clock, kernel and processes are there.
const REAL: &str = "crates/host/src/linux";

/// Libraries that run many times in one program, so that they own nothing of the process.
const LIBRARIES: [&str; 4] =
    ["crates/operator/src/", "crates/node/src/", "crates/cni/src/", "crates/host/src/"];

const OWNS_THE_PROCESS: [&str; 6] = [
    "process::exit",
    "std::env::var",
    "std::env::args",
    "set_global_default",
    "static mut",
    "signal::ctrl_c",
];

struct Source {
    /// From the root of the workspace.
    name: String,
    text: String,
}

impl Source {
    /// Lines of code with their numbers: no comments, and nothing from the first test module on.
    fn code(&self) -> Vec<(usize, &str)> {
        let lines = self.text.lines().take_while(|line| line.trim() != "#[cfg(test)]");
        let numbered = lines.enumerate().map(|(index, line)| (index + 1, line));
        numbered.map(|(number, line)| (number, line.split("//").next().unwrap_or(line))).collect()
    }

    fn is_below(&self, place: &str) -> bool {
        if place.ends_with('/') { self.name.starts_with(place) } else { self.name == place }
    }

    /// Each line of code that has one of the words, as `file:line: word`.
    fn uses(&self, words: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        for (number, line) in self.code() {
            let here = words.iter().filter(|word| line.contains(**word));
            found.extend(here.map(|word| format!("{}:{number}: {word}", self.name)));
        }
        found
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Our sources, without tests, benches and what a generator wrote.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut waiting = vec!["xtask/src".to_owned()];
    for entry in fs::read_dir(root().join("crates")).expect("crates/ is there") {
        let name = entry.expect("crates/ can be listed").file_name();
        waiting.push(format!("crates/{}/src", name.to_string_lossy()));
    }
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = fs::read_dir(root().join(&directory)) else { continue };
        for entry in entries {
            let entry = entry.expect("a source directory can be listed");
            let name = format!("{directory}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                waiting.push(name);
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
                let text = fs::read_to_string(entry.path()).expect("a source file can be read");
                if !text.starts_with("// This file is @generated") {
                    found.push(Source { name, text });
                }
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn none(found: Vec<String>, rule: &str) {
    assert!(found.is_empty(), "{rule}\n{}", found.join("\n"));
}

#[test]
fn steps_can_be_replayed() {
    let steps = sources().into_iter().filter(|source| {
        STEPS.iter().any(|place| source.is_below(place)) && !source.name.starts_with(REAL)
    });
    let found = steps.flat_map(|source| source.uses(&UNREPEATABLE)).collect();
    none(
        found,
        "a step takes time, randomness and its world as arguments, and keeps maps in order",
    );
}

#[test]
fn libraries_own_nothing_of_the_process() {
    let libraries = sources().into_iter().filter(|source| {
        LIBRARIES.iter().any(|place| source.is_below(place))
            && !source.name.ends_with("/src/main.rs")
            && !source.name.starts_with(REAL)
    });
    let found = libraries.flat_map(|source| source.uses(&OWNS_THE_PROCESS)).collect();
    none(
        found,
        "the playground runs many of these in one program; only a main reads the environment or ends the process",
    );
}

#[test]
fn unsafe_code_is_in_one_module() {
    let others = sources().into_iter().filter(|source| !source.name.starts_with(REAL));
    let found = others.flat_map(|source| source.uses(&["unsafe "])).collect();
    none(found, "unsafe code belongs into crates/host/src/linux");
}

#[test]
fn every_file_says_first_what_it_is_for() {
    // A main that is not written yet says nothing.
    let written = sources().into_iter().filter(|source| source.text.trim() != "fn main() {}");
    let silent = written.filter(|source| !source.text.starts_with("//!"));
    none(silent.map(|source| source.name).collect(), "these files open without a //! comment");
}

#[test]
fn no_file_has_more_than_600_lines_of_code_without_its_tests() {
    let size =
        |source: &Source| source.code().iter().filter(|(_, line)| !line.trim().is_empty()).count();
    // A file that is better whole says so in its header.
    let reason =
        |source: &Source| source.text.lines().any(|line| line.starts_with("//! Long because"));
    let long = sources().into_iter().filter(|source| size(source) > 600 && !reason(source));
    let found = long.map(|source| format!("{}: {}", source.name, size(&source))).collect();
    none(found, "split these files, or say in the header: Long because …");
}

#[test]
fn the_rules_see_what_they_forbid() {
    let text = "//! x\nuse std::collections::HashMap; // HashSet\n// Instant::now\nlet t = Instant::now();\n#[cfg(test)]\nHashSet";
    let source = Source { name: "crates/planner/src/x.rs".to_owned(), text: text.to_owned() };
    assert!(source.is_below("crates/planner/src/") && !source.is_below("crates/planner/src/xy.rs"));
    assert_eq!(
        source.uses(&UNREPEATABLE),
        ["crates/planner/src/x.rs:2: HashMap", "crates/planner/src/x.rs:4: Instant::now"]
    );
}
