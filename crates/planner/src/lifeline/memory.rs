//! What the host lived by a moment ago counts still: a network manager that restarts takes the default route away for
//! seconds, and a guard that looks just then would let a card be reset on which the route comes back.

use api::inventory::Inventory;
use api::lifeline::{Kept, Lifeline, Memory};
use api::{PciAddress, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// For how long a card is guarded after the host's last connection over it has gone. A switch reboots in minutes.
pub const GRACE: Duration = Duration::from_secs(300);

/// Adds to what was seen what was there a moment ago, and gives what is to be remembered from now on.
pub fn remember(known: &Memory, inventory: &mut Inventory, now: Timestamp) -> Memory {
    let memory = Memory {
        lifelines: keep(&known.lifelines, &inventory.lifelines, now),
        roce_lags: keep(&known.roce_lags, &inventory.roce_lags, now),
    };
    for (pci, kept) in &memory.lifelines {
        let gone_since = kept.gone_since;
        let shown = kept.what.iter().map(|lifeline| Lifeline { gone_since, ..lifeline.clone() });
        inventory.lifelines.insert(*pci, shown.collect());
    }
    for (pci, kept) in &memory.roce_lags {
        inventory.roce_lags.insert(*pci, kept.what.clone());
    }
    memory
}

fn keep<T: Clone>(
    known: &BTreeMap<PciAddress, Kept<T>>,
    found: &BTreeMap<PciAddress, T>,
    now: Timestamp,
) -> BTreeMap<PciAddress, Kept<T>> {
    let gone = known.iter().filter(|(pci, _)| !found.contains_key(pci));
    let still = gone.filter_map(|(pci, kept)| {
        // A time to come is one of a clock that was set back: it begins anew.
        let since = kept.gone_since.filter(|since| *since <= now).unwrap_or(now);
        let young = now.duration_since(since).unsigned_abs() < GRACE;
        young.then(|| (*pci, Kept { what: kept.what.clone(), gone_since: Some(since) }))
    });
    let there =
        found.iter().map(|(pci, what)| (*pci, Kept { what: what.clone(), gone_since: None }));
    still.chain(there).collect()
}

/// What a report says of a lifeline, without that it was gone by then.
pub fn as_it_was(reported: &Lifeline) -> Lifeline {
    Lifeline { gone_since: None, ..reported.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::lifeline::Carries;
    use expect_test::{Expect, expect};

    /// One card with the default route in the seconds that are named; what is guarded in each second that is asked.
    fn check(there: &[u64], asked: &[u64], expected: Expect) {
        let begin: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let pci: PciAddress = "0000:3b:00.0".parse().unwrap();
        let route = Lifeline {
            carries: Carries::DefaultRoute,
            detail: String::new(),
            gone_since: None,
            over: vec!["bond0".to_owned()],
        };
        let mut memory = Memory::default();
        let mut out = String::new();
        for second in asked {
            let mut inventory = Inventory::default();
            if there.contains(second) {
                inventory.lifelines.insert(pci, vec![route.clone()]);
                inventory.roce_lags.insert(pci, "bond0".to_owned());
            }
            let now = begin + Duration::from_secs(*second);
            memory = remember(&memory, &mut inventory, now);
            let guarded = inventory.lifelines.get(&pci).map(|all| super::super::carried(all));
            let lag = inventory.roce_lags.contains_key(&pci);
            out.push_str(&format!("{second}: {} lag {lag}\n", guarded.as_deref().unwrap_or("-")));
        }
        expected.assert_eq(&out);
    }

    #[test]
    fn a_route_that_is_away_for_seconds_is_a_lifeline_all_the_same() {
        check(
            &[0, 20],
            &[0, 5, 10, 20, 25],
            expect![[r#"
                0: its default route over bond0 lag true
                5: its default route (gone since 2026-01-01T12:00:05Z) over bond0 lag true
                10: its default route (gone since 2026-01-01T12:00:05Z) over bond0 lag true
                20: its default route over bond0 lag true
                25: its default route (gone since 2026-01-01T12:00:25Z) over bond0 lag true
            "#]],
        );
    }

    #[test]
    fn a_route_that_stays_away_is_forgotten_and_a_clock_that_goes_back_begins_anew() {
        check(
            &[0],
            &[0, 10, 309, 310, 311],
            expect![[r#"
                0: its default route over bond0 lag true
                10: its default route (gone since 2026-01-01T12:00:10Z) over bond0 lag true
                309: its default route (gone since 2026-01-01T12:00:10Z) over bond0 lag true
                310: - lag false
                311: - lag false
            "#]],
        );
        check(
            &[1000],
            &[1000, 1010, 0, 299, 300],
            expect![[r#"
                1000: its default route over bond0 lag true
                1010: its default route (gone since 2026-01-01T12:16:50Z) over bond0 lag true
                0: its default route (gone since 2026-01-01T12:00:00Z) over bond0 lag true
                299: its default route (gone since 2026-01-01T12:00:00Z) over bond0 lag true
                300: - lag false
            "#]],
        );
    }
}
