//! The simulation is replayable: two processes that run the same seeds tell the same story, event by event.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The example beside this test; cargo builds examples before it runs tests.
fn simulate() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.ancestors().nth(2).expect("tests are in target/<profile>/deps");
    profile.join("examples/simulate")
}

#[test]
fn twenty_seeds_in_two_processes_give_the_same_traces() {
    let start = || {
        let mut command = Command::new(simulate());
        let command = command.args(["--seeds", "20", "--hash"]).stdout(Stdio::piped());
        command.spawn().expect("the simulation starts")
    };
    let outputs =
        [start(), start()].map(|process| process.wait_with_output().expect("the simulation ends"));
    let hashes = outputs.each_ref().map(|output| {
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "a seed failed:\n{text}");
        text.lines().filter(|line| line.starts_with("seed ")).map(str::to_owned).collect::<Vec<_>>()
    });
    assert_eq!(hashes[0].len(), 20, "every seed prints its hash");
    assert_eq!(hashes[0], hashes[1]);
}
