//! docs/reference/reasons.md explains every word of `planner::Reason`, and no other.

use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../docs/reference/reasons.md");
const SOURCE: &str = include_str!("../../crates/planner/src/reason.rs");

/// The words of the enum: each arm of `as_str` has its text in quotes.
fn words() -> BTreeSet<&'static str> {
    let arms = SOURCE.lines().filter(|line| line.trim_start().starts_with("Self::"));
    arms.filter_map(|line| line.split('"').nth(1)).collect()
}

/// The words of the page: the first cell of each row.
fn explained() -> BTreeSet<&'static str> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next()).collect()
}

#[test]
fn every_reason_is_explained_and_every_explanation_has_its_reason() {
    assert!(words().len() > 20, "the source is read wrongly: {:?}", words());
    assert_eq!(words(), explained());
}
