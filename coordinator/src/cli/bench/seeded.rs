//! Chance that is the same in every run.

/// A number that looks random, of a number: SplitMix64's last step.
pub(super) fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A number below `end` that looks random.
pub(super) fn below(number: u64, end: usize) -> usize {
    (mixed(number) % end.max(1) as u64) as usize
}

/// The same things in an order that looks random.
pub(super) fn shuffled<T>(things: Vec<T>) -> Vec<T> {
    let mut numbered: Vec<(u64, T)> = (0..).map(mixed).zip(things).collect();
    numbered.sort_by_key(|(number, _)| *number);
    numbered.into_iter().map(|(_, thing)| thing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_loses_nothing_and_moves_most() {
        let shuffled = shuffled((0..100).collect());
        let stayed = shuffled.iter().enumerate().filter(|(place, thing)| place == *thing).count();
        let mut sorted = shuffled.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<usize>>());
        assert!(stayed < 10, "{shuffled:?}");
    }

    #[test]
    fn numbers_are_spread_evenly() {
        let mut counts = [0_u32; 10];
        (0..10_000).for_each(|number| counts[below(number, 10)] += 1);
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }
}
