//! docs/compatibility.md names the test that holds each row: the test must exist, and no row may claim without one in silence.

use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../docs/compatibility.md");

/// The rows of all tables: what upstream does, what we do, the verdict, the tests.
fn rows() -> Vec<[&'static str; 4]> {
    let lines =
        PAGE.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| upstream"));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let found = cells.len();
            cells.try_into().unwrap_or_else(|_| panic!("{found} cells instead of 4: {line}"))
        })
        .collect()
}

/// The tests of a cell: `crate::name`, `crate::name.txt` for a scenario, or `lab::sentence` for a case of the lab.
fn named(cell: &str) -> Vec<(&str, &str)> {
    let quoted = cell.split('`').skip(1).step_by(2);
    quoted
        .map(|test| test.split_once("::").unwrap_or_else(|| panic!("{test} names no crate")))
        .collect()
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The text of the lab's programs and of the cases that they run.
fn lab() -> String {
    let mut files = Vec::new();
    for home in ["host", "cni", "node", "playground"] {
        let home = root().join("crates").join(home);
        rust_files(&home.join("examples"), &mut files);
        rust_files(&home.join("tests/contract"), &mut files);
    }
    files.iter().filter_map(|path| fs::read_to_string(path).ok()).collect()
}

/// All Rust text of one crate, tests included.
fn text_of(name: &str) -> String {
    let home = if name == "xtask" { root().join(name) } else { root().join("crates").join(name) };
    let mut files = Vec::new();
    rust_files(&home.join("src"), &mut files);
    rust_files(&home.join("tests"), &mut files);
    files.iter().filter_map(|path| fs::read_to_string(path).ok()).collect()
}

#[test]
fn every_verdict_is_one_of_four_words() {
    for row in rows() {
        assert!(["same", "better", "different", "missing"].contains(&row[2]), "{row:?}");
        assert_eq!(
            row[2] == "missing",
            row[3].is_empty(),
            "{row:?}: a missing row has no test, any other has one"
        );
    }
}

#[test]
fn every_test_that_a_row_names_exists() {
    let mut gone = Vec::new();
    for row in rows() {
        for (home, test) in named(row[3]) {
            let there = match test.ends_with(".txt") {
                _ if home == "lab" => lab().contains(&format!("\"{test}\"")),
                true => {
                    root().join("crates").join(home).join("tests/scenarios").join(test).exists()
                }
                false => text_of(home).contains(&format!("fn {test}(")),
            };
            if !there {
                gone.push(format!("{home}::{test}"));
            }
        }
    }
    assert!(gone.is_empty(), "docs/compatibility.md names tests that are gone: {gone:#?}");
}
