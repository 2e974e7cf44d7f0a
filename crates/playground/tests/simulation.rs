//! The simulation as a program: it passes, it is replayable, and it says what it cannot read.
//!
//! Few seeds, since this is the slow build; `cargo xtask simulate` runs thousands in a fast one.

use std::path::PathBuf;
use std::process::{Command, Output};

/// The example beside this test; cargo builds examples before it runs tests, unless told to build one test only.
fn simulate(arguments: &[&str]) -> Output {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.ancestors().nth(2).expect("tests are in target/<profile>/deps");
    let program: PathBuf = profile.join("examples/simulate");
    assert!(
        program.exists(),
        "{} is not built; run `cargo build -p playground --example simulate` first",
        program.display()
    );
    Command::new(program).args(arguments).output().expect("the simulation starts")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn twenty_seeds_pass_and_a_second_process_tells_the_same_story() {
    let output = simulate(&["--seeds", "20"]);
    let text = text(&output);
    assert!(output.status.success(), "a seed failed:\n{text}");
    assert!(text.contains("20 seeds were replayed by a second process, event by event"), "{text}");
    assert_eq!(text.lines().last(), Some("simulate: 20 passed, 0 failed"));
}

/// Which invariant sees which bug: one that only another sees would tell of an eye that has gone blind.
const CAUGHT_BY: [(&str, &str); 13] = [
    ("no ledger", "was rebooted "),
    ("unlimited when unset", "granted "),
    ("command line instead of effective mode", ""),
    ("lost compare-and-swap", "forgets the grant of "),
    ("prefix-only drain", " VFs and not "),
    ("takes others' cordons for its own", "is no longer cordoned, and it was not ours to undo"),
    ("forgets its own cordon", "is left cordoned"),
    ("reboots undrained", "is rebooted under pod "),
    ("held devices vanish", "and nobody changed the policy"),
    ("writes what is so already", " times within a minute"),
    ("nobody sweeps", " VFs and not "),
    ("cuts lifelines", "whose carrier changed "),
    ("reboots before the API knows", "asks for a reboot before the API has booked it"),
];

/// The eye of the simulation: a bug that no seed shows would be a bug that it cannot see.
#[test]
fn each_bug_of_the_old_operator_is_caught_within_two_hundred_seeds() {
    let output = simulate(&["--mutations", "--seeds", "200"]);
    let text = text(&output);
    assert!(output.status.success(), "a bug was not caught:\n{text}");
    assert_eq!(text.matches(": caught after ").count(), 13, "{text}");
    // By the invariant that is there to see it.
    for (mutation, invariant) in CAUGHT_BY {
        let of_it = |line: &&str| line.starts_with(&format!("mutation {mutation}: caught "));
        let line = text.lines().find(of_it).unwrap_or_default();
        assert!(line.contains(invariant), "{mutation}: {line}");
    }
    assert_eq!(text.lines().last(), Some("mutations: 13 caught, 0 missed"));
}

#[test]
fn the_trace_of_a_seed_shows_its_faults_and_is_the_same_each_time() {
    let traces = [(); 2].map(|()| text(&simulate(&["--seed", "2", "--trace", "--hash"])));
    assert!(traces[0].contains("fault 1: "), "{}", traces[0]);
    let story = |trace: &String| -> Vec<String> {
        trace.lines().filter(|line| !line.contains("seeds a second")).map(str::to_owned).collect()
    };
    assert_eq!(story(&traces[0]), story(&traces[1]));
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    for (arguments, why) in [
        (&["--seeds", "many"][..], "simulate: --seeds \"many\" is not a number\n"),
        (&["--seeds", "0"], "simulate: --seeds 0 proves nothing; ask for one at least\n"),
        (&["--rollout", "0"], "simulate: --rollout 0 has no node to roll out over\n"),
        (&["--seed"], "simulate: --seed needs a value\n"),
        (&["--fast"], "simulate: \"--fast\" is not an option; see cargo xtask simulate --help\n"),
        (&["--keep", "1,x"], "simulate: --keep: \"x\" is not a number\n"),
    ] {
        let output = simulate(arguments);
        assert!(!output.status.success(), "{arguments:?} was taken");
        assert_eq!(String::from_utf8_lossy(&output.stderr), why);
    }
    let unknown = simulate(&["--without", "earthquake"]);
    let why = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(
        why.starts_with("simulate: \"earthquake\" is no fault; there are: crash at a primitive, "),
        "{why}"
    );
}
