use super::*;
use proptest::prelude::*;

const ROWS: u64 = 5_000;

fn tier() -> Tier {
    Tier::of(ROWS, 1)
}

/// A tier in which each rung found so many of ten, in each of so many searches.
fn measured(found: &[(u32, u32)], searches: u32) -> Calibration {
    let mut calibration = Calibration::default();
    let each: Vec<(u32, u32, f64)> = found.iter().map(|(ef, found)| (*ef, *found, 1.0)).collect();
    (0..searches).for_each(|_| calibration.add(tier(), &each, 10, 0, ROWS));
    calibration
}

proptest! {
    #[test]
    fn an_ef_that_falls_short_is_taken_only_if_none_is_known_to_do(
        found in prop::collection::btree_map(1_u32..=1_000, 0_u32..=10, 1..9), searches in 100_u32..400, target in 0.0_f64..=1.0,
    ) {
        let found: Vec<(u32, u32)> = found.into_iter().collect();
        let calibration = measured(&found, searches);
        let ef = calibration.ef(tier(), target).expect("enough was measured");
        let rungs = &calibration.tiers[&tier()].rungs;
        // Half of what may be missed is left to queries that are not stored.
        let reaches = |ef: u32| rungs[&ef].least() >= 1.0 - (1.0 - target) / 2.0;
        prop_assert!(rungs.contains_key(&ef));
        match rungs.keys().find(|ef| reaches(**ef)) {
            Some(least) => prop_assert_eq!(ef, *least),
            None => prop_assert_eq!(Some(&ef), rungs.keys().last()),
        }
    }

    #[test]
    fn who_wants_more_gets_no_less(
        found in prop::collection::btree_map(1_u32..=1_000, 0_u32..=10, 1..9), searches in 100_u32..400,
        a in 0.0_f64..=1.0, b in 0.0_f64..=1.0,
    ) {
        let calibration = measured(&found.into_iter().collect::<Vec<_>>(), searches);
        prop_assert!(calibration.ef(tier(), a.min(b)) <= calibration.ef(tier(), a.max(b)));
    }

    #[test]
    fn too_little_measured_says_nothing(searches in 0_u32..100, target in 0.0_f64..=1.0) {
        prop_assert_eq!(measured(&[(40, 10)], searches).ef(tier(), target), None);
        prop_assert_eq!(measured(&[(40, 10)], 200).ef(Tier::of(ROWS, 2), target), None, "another tier");
    }

    #[test]
    fn every_search_has_one_tier(rows in 0_u64..10_000_000, walks in 1_u32..1_000) {
        let tier = Tier::of(rows, walks);
        let ((from, until), (least, most)) = (tier.rows(), tier.walks());
        prop_assert!(from <= rows && until.is_none_or(|until| rows < until));
        prop_assert!(least <= walks && most.is_none_or(|most| walks < most));
    }
}

#[test]
fn promises_are_kept_once_a_flawless_tier_is_believed() {
    let calibration = measured(&[(24, 9), (40, 10), (64, 10)], 100);
    for (profile, ef) in [(Profile::Accuracy, 40), (Profile::Balanced, 40), (Profile::Speed, 40)] {
        assert_eq!(calibration.ef(tier(), promise(profile)), Some(ef), "{profile:?}");
    }
    assert_eq!(calibration.ef(tier(), 0.75), Some(24));
    assert_eq!(calibration.ef(tier(), 1.0), Some(64), "nothing vouches for that");
}

#[test]
fn a_tier_is_measured_until_it_is_known_and_again_when_it_has_changed() {
    let mut calibration = measured(&[(40, 10)], 199);
    assert!(calibration.wants(tier(), 0, ROWS));
    calibration.add(tier(), &[(40, 10, 1.0)], 10, 0, ROWS);
    assert!(!calibration.wants(tier(), 0, ROWS));
    assert!(calibration.wants(Tier::of(ROWS, 2), 0, ROWS), "one that was never measured");
    assert!(!calibration.wants(tier(), 3_599, ROWS + ROWS / 4));
    let mut grown = calibration.clone();
    assert!(grown.wants(tier(), 10, ROWS * 2));
    assert!(calibration.wants(tier(), 3_600, ROWS));
    for calibration in [grown, calibration] {
        assert!(calibration.ef(tier(), 0.9).is_some(), "it stays believed");
    }
}
