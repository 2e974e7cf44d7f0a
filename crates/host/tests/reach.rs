//! That each refusal and each fault of the simulated machine was seen on a real kernel, or is told not to be reachable there.
//!
//! The list is `contract/reach.txt`; the lab holds it against the cases that passed (xtask, lab).

#![allow(clippy::unwrap_used)] // Helpers of tests may, as the tests do.

use host::seam::words;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const LIST: &str = include_str!("contract/reach.txt");
const LINES: &str = include_str!("contract/lines.txt");

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(sources(&path)),
            false if path.extension().is_some_and(|kind| kind == "rs") => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

/// What stands behind `start`, as far as it is a name.
fn name_after<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    let rest = &text[text.find(start)? + start.len()..];
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    Some(&rest[..end])
}

/// `file function ERRNO` for each place of the machine that names an errno.
fn refusals() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in sources(&here().join("src/sim")) {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        if file == "tests.rs" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let mut function = "";
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            function = name_after(line, "fn ").unwrap_or(function);
            for after in line.split("Errno::").skip(1) {
                let errno = name_after(after, "").unwrap();
                if errno.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()) {
                    found.insert(format!("{file} {function} {errno}"));
                }
            }
        }
    }
    found
}

/// `fault Name` for each variant.
fn faults() -> BTreeSet<String> {
    let text = fs::read_to_string(here().join("src/sim/fault.rs")).unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("    ")?.strip_suffix(','));
    let names = names.filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric()));
    names.map(|name| format!("fault {name}")).collect()
}

/// The list: what is below each verdict.
fn verdicts() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut verdict = "";
    for line in LIST.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("  ") {
            Some(entry) => found.entry(verdict).or_default().push(entry),
            None => verdict = line,
        }
    }
    found
}

#[test]
fn each_refusal_and_fault_of_the_simulation_has_one_verdict() {
    let listed: Vec<&str> = verdicts().into_values().flatten().collect();
    let known: BTreeSet<String> = refusals().into_iter().chain(faults()).collect();
    assert!(known.len() > 100, "the machine's source is read wrongly: {known:?}");
    let missing: Vec<&String> =
        known.iter().filter(|entry| !listed.contains(&entry.as_str())).collect();
    let gone: Vec<&&str> = listed.iter().filter(|entry| !known.contains(**entry)).collect();
    let once: BTreeSet<&&str> = listed.iter().collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "tests/contract/reach.txt\nlacks {missing:#?}\nand has, of nothing, {gone:#?}"
    );
    assert_eq!(once.len(), listed.len(), "tests/contract/reach.txt has an entry twice");
}

#[test]
fn what_is_seen_is_seen_in_a_case_or_a_test_that_there_is() {
    let crates = here().parent().unwrap();
    let read = |paths: Vec<PathBuf>| -> String {
        paths.into_iter().map(|path| fs::read_to_string(path).unwrap()).collect()
    };
    let programs = ["host/examples", "cni/examples", "node/examples", "playground/examples"];
    let programs = programs.iter().flat_map(|directory| sources(&crates.join(directory)));
    let programs = read(programs.collect());
    let tests = sources(&here().join("tests")).into_iter();
    let tests =
        tests.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("linux"));
    let tests = read(tests.collect());
    for verdict in verdicts().into_keys() {
        let (kind, what) = verdict.split_once(": ").unwrap();
        let is_there = match kind {
            "lab" => {
                programs.contains(&format!("\"{what}\"")) || LINES.contains(&format!("# {what}\n"))
            }
            "test" => tests.contains(&format!("fn {what}()")),
            "not" => what.len() > 20,
            _ => false,
        };
        assert!(is_there, "tests/contract/reach.txt: {verdict}");
    }
}

/// A case of the contract gives the kernel's own answer, so the errno that is said to be seen there is among its lines:
/// in as many of them as there are refusals with it, so that no step can be dropped from a case unseen.
#[test]
fn a_case_of_the_contract_shows_each_errno_as_often_as_it_is_said_to_show_it() {
    const NAMES: [(&str, Errno); 18] = [
        ("ACCESS", Errno::ACCESS),
        ("ADDRNOTAVAIL", Errno::ADDRNOTAVAIL),
        ("BUSY", Errno::BUSY),
        ("EXIST", Errno::EXIST),
        ("HOSTUNREACH", Errno::HOSTUNREACH),
        ("INVAL", Errno::INVAL),
        ("ISDIR", Errno::ISDIR),
        ("NETDOWN", Errno::NETDOWN),
        ("NETUNREACH", Errno::NETUNREACH),
        ("NODEV", Errno::NODEV),
        ("NOENT", Errno::NOENT),
        ("NOTDIR", Errno::NOTDIR),
        ("OPNOTSUPP", Errno::OPNOTSUPP),
        ("PROTONOSUPPORT", Errno::PROTONOSUPPORT),
        ("PERM", Errno::PERM),
        ("RANGE", Errno::RANGE),
        ("SRCH", Errno::SRCH),
        ("TIMEDOUT", Errno::TIMEDOUT),
    ];
    for (verdict, entries) in verdicts() {
        let Some(case) = verdict.strip_prefix("lab: ") else { continue };
        let Some((_, lines)) = LINES.split_once(&format!("# {case}\n")) else { continue };
        let lines = lines.split("\n\n").next().unwrap();
        let mut refusals: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| !entry.starts_with("fault ")) {
            refusals.entry(entry.rsplit(' ').next().unwrap()).or_default().push(entry);
        }
        for (name, entries) in refusals {
            let (_, errno) = NAMES.iter().find(|(known, _)| *known == name).unwrap();
            let words = words(*errno);
            let shown = lines.lines().filter(|line| line.contains(&format!(": {words}"))).count();
            assert!(shown >= entries.len(), "{case} shows {words:?} {shown} times for {entries:?}");
        }
    }
}
