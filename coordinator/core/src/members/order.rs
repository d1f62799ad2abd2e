//! Whom to ask, and whom after that.

/// The order in which members are asked that cost so much: first the cheaper of two that `chance` draws, then the others, cheapest
/// first. They are asked only if the first fails, or is late.
pub fn in_order(costs: &[u64], chance: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by_key(|member| costs[*member]);
    let count = costs.len() as u64;
    if count < 2 {
        return order;
    }
    let (one, shift) = (chance % count, 1 + chance / count % (count - 1));
    let (one, other) = (one as usize, ((one + shift) % count) as usize);
    let first = if costs[other] < costs[one] { other } else { one };
    order.retain(|member| *member != first);
    order.insert(0, first);
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How often each is asked first, over all that chance may be.
    fn firsts(costs: &[u64]) -> Vec<usize> {
        let mut counts = vec![0; costs.len()];
        (0..6_000).for_each(|chance| counts[in_order(costs, chance)[0]] += 1);
        counts
    }

    #[test]
    fn equals_are_asked_alike() {
        assert_eq!(firsts(&[5, 5, 5]), [2_000, 2_000, 2_000]);
        assert_eq!(firsts(&[5, 5]), [3_000, 3_000]);
        assert_eq!((in_order(&[], 7), in_order(&[3], 7)), (vec![], vec![0]));
    }

    #[test]
    fn the_dearest_is_never_first_and_the_cheapest_not_always() {
        assert_eq!(firsts(&[1, 9, 3]), [4_000, 0, 2_000]);
        assert_eq!(firsts(&[9, 1]), [0, 6_000]);
    }

    proptest! {
        #[test]
        fn everybody_is_asked_once_and_the_rest_by_cost(
            costs in proptest::collection::vec(0_u64..20, 0..6),
            chance: u64,
        ) {
            let order = in_order(&costs, chance);
            let mut all = order.clone();
            all.sort_unstable();
            prop_assert_eq!(all, (0..costs.len()).collect::<Vec<_>>());
            prop_assert!(order.iter().skip(1).map(|member| costs[*member]).is_sorted());
        }
    }
}
