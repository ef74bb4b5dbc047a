//! Sorting outside hot paths. The standard library's sort is compiled for each type and comparison, some 7 KB each; these
//! functions share one of them, and add a few hundred bytes. A comparison costs a call through a pointer.
//!
//! Hot paths use the standard library's sort: the picker, the hash scheduler and the DHT's table.

use std::cmp::Ordering;

/// Sorts by the elements' own order. Equal elements keep their order.
pub fn sort<T: Ord>(items: &mut [T]) {
    sort_by(items, T::cmp);
}

/// Sorts by a key, which is computed for each comparison. Elements with equal keys keep their order.
pub fn sort_by_key<T, K: Ord>(items: &mut [T], mut key: impl FnMut(&T) -> K) {
    sort_by(items, |a, b| key(a).cmp(&key(b)));
}

/// Sorts by a comparison. Elements that compare as equal keep their order.
pub fn sort_by<T>(items: &mut [T], mut compare: impl FnMut(&T, &T) -> Ordering) {
    let mut sources: Vec<usize> = (0..items.len()).collect();
    sort_indices(&mut sources, &mut |a, b| compare(&items[a], &items[b]));
    // Each position gets the element that `sources` names, along the cycles of the permutation.
    for start in 0..items.len() {
        let mut position = start;
        while sources[position] != start {
            let source = sources[position];
            items.swap(position, source);
            sources[position] = position;
            position = source;
        }
        sources[position] = position;
    }
}

/// The one sort that is compiled.
#[inline(never)]
fn sort_indices(indices: &mut [usize], compare: &mut dyn FnMut(usize, usize) -> Ordering) {
    indices.sort_by(|&a, &b| compare(a, b));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_order_is_that_of_the_standard_library(items in proptest::collection::vec((0u8..20, any::<u8>()), 0..200)) {
            let (mut ours, mut expected) = (items.clone(), items.clone());
            sort(&mut ours);
            expected.sort_unstable();
            prop_assert_eq!(&ours, &expected);

            let (mut ours, mut expected) = (items.clone(), items);
            sort_by_key(&mut ours, |item| item.0);
            expected.sort_by_key(|item| item.0);
            prop_assert_eq!(ours, expected);
        }
    }
}
