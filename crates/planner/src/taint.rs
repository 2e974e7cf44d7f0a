//! When a node carries the taint `ironrail.dev/not-ready`: from a boot until the node is verified, where a policy asks.
//!
//! A node that runs and is told of the taint for the first time is taken as it is: tainting every node that waits for
//! its turn in a rollout would close the cluster. The daemon's word decides what is verified; here it is only heeded.

/// What is known of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// A policy that selects the node asks for the taint.
    pub asked: bool,
    /// The node has it now.
    pub tainted: bool,
    /// It is being drained for a reboot, or drained, or its reboot is booked.
    pub rebooting: bool,
    /// The boot that the Node reports; empty where it reports none.
    pub boot_id: String,
    /// The boot that was booked as verified; empty for none.
    pub verified_boot: String,
    /// The daemon of this very boot says that everything that is wanted of the node is so.
    pub at_goal: bool,
}

/// What should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    pub tainted: bool,
    pub verified_boot: String,
}

pub fn judge(facts: &Facts) -> Verdict {
    if !facts.asked {
        return Verdict::default();
    }
    let booked = |tainted| Verdict { tainted, verified_boot: facts.verified_boot.clone() };
    if facts.rebooting {
        return booked(true);
    }
    if facts.boot_id.is_empty() {
        return booked(facts.tainted);
    }
    if facts.verified_boot == facts.boot_id {
        return booked(false);
    }
    // One that has the taint and no book was registered with it: a new node.
    let runs_already = facts.verified_boot.is_empty() && !facts.tainted;
    match runs_already || facts.at_goal {
        true => Verdict { tainted: false, verified_boot: facts.boot_id.clone() },
        false => booked(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `asked tainted rebooting goal`, the boot and the booked one → the taint and what is booked then.
    fn check(words: &str, boots: (&str, &str), expected: (bool, &str)) {
        let says = |word| words.split(' ').any(|one| one == word);
        let facts = Facts {
            asked: says("asked"),
            tainted: says("tainted"),
            rebooting: says("rebooting"),
            at_goal: says("goal"),
            boot_id: boots.0.to_owned(),
            verified_boot: boots.1.to_owned(),
        };
        let verdict = judge(&facts);
        assert_eq!((verdict.tainted, verdict.verified_boot.as_str()), expected, "{facts:?}");
    }

    #[test]
    fn a_node_is_tainted_from_before_a_reboot_until_it_is_verified() {
        check("asked rebooting", ("b1", "b1"), (true, "b1"));
        check("asked rebooting tainted", ("b2", "b1"), (true, "b1"));
        check("asked tainted", ("b2", "b1"), (true, "b1"));
        check("asked tainted goal", ("b2", "b1"), (false, "b2"));
        check("asked", ("b2", "b2"), (false, "b2"));
    }

    #[test]
    fn a_boot_that_nobody_asked_for_taints_too_and_a_drain_that_was_undone_does_not() {
        check("asked", ("b2", "b1"), (true, "b1"));
        check("asked tainted", ("b1", "b1"), (false, "b1"));
    }

    #[test]
    fn a_node_that_runs_is_taken_as_it_is_and_one_registered_with_the_taint_is_not() {
        check("asked", ("b1", ""), (false, "b1"));
        check("asked tainted", ("b1", ""), (true, ""));
        check("asked tainted goal", ("b1", ""), (false, "b1"));
        check("asked tainted", ("", ""), (true, ""));
    }

    #[test]
    fn without_a_policy_that_asks_nothing_of_ours_is_left() {
        check("tainted", ("b2", "b1"), (false, ""));
        check("tainted rebooting", ("b1", "b1"), (false, ""));
    }
}
