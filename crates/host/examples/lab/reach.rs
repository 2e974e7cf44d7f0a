//! Tells which refusals and faults of the simulation the lab shows, and why it cannot show the others.
//!
//! The list is checked by `tests/reach.rs`, and against the cases that passed by xtask.

const LIST: &str = include_str!("../../tests/contract/reach.txt");

/// One line for each verdict.
pub fn tell() {
    let blocks = LIST.split("\n\n").filter(|block| !block.starts_with('#'));
    for block in blocks {
        let mut lines = block.lines();
        let verdict = lines.next().unwrap_or_default();
        let entries: Vec<&str> = lines.map(str::trim).collect();
        println!("-- {}: {verdict}", entries.join(", "));
    }
}
