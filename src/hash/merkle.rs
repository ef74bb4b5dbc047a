//! The hash trees of BitTorrent v2 (BEP 52). A file's blocks of 16 KiB are the leaves. A tree has a power of two of them; leaves
//! beyond the end of the file are zeros. So a part of the tree beyond the end of the file has a root that depends on its height
//! alone.

use std::sync::OnceLock;

use crate::hash::sha256::sha256;
use crate::types::Sha256Hash;

/// One more than the height of the highest tree: that of a file of 2^63 bytes.
const HEIGHTS: usize = 50;

/// The hash of the node above two others.
pub fn parent(left: &Sha256Hash, right: &Sha256Hash) -> Sha256Hash {
    let mut both = [0; 64];
    both[..32].copy_from_slice(left);
    both[32..].copy_from_slice(right);
    sha256(&both)
}

/// The root of `nodes`, which are `height` layers above the leaves, in a tree that is `width` of them wide; missing nodes lie
/// beyond the end of the file. `width` is a power of two.
///
/// # Panics
/// If there are no nodes, or more than `width`.
pub fn root(mut nodes: Vec<Sha256Hash>, height: usize, width: usize) -> Sha256Hash {
    assert!((1..=width).contains(&nodes.len()), "{} nodes in a tree of width {width}", nodes.len());
    let (mut width, mut height) = (width, height);
    while width > 1 {
        let count = nodes.len().div_ceil(2);
        for index in 0..count {
            let right = nodes.get(2 * index + 1).copied().unwrap_or_else(|| zero_root(height));
            nodes[index] = parent(&nodes[2 * index], &right);
        }
        nodes.truncate(count);
        (width, height) = (width / 2, height + 1);
    }
    nodes[0]
}

/// The root of a tree of this height whose leaves are all zeros.
fn zero_root(height: usize) -> Sha256Hash {
    static ROOTS: OnceLock<[Sha256Hash; HEIGHTS]> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = [[0; 32]; HEIGHTS];
        for height in 1..HEIGHTS {
            roots[height] = parent(&roots[height - 1], &roots[height - 1]);
        }
        roots
    });
    roots[height]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// The root of all leaves, whose number is a power of two, by the definition.
    fn plain_root(leaves: &[Sha256Hash]) -> Sha256Hash {
        if let [leaf] = leaves {
            return *leaf;
        }
        let (left, right) = leaves.split_at(leaves.len() / 2);
        Sha256::new().chain_update(plain_root(left)).chain_update(plain_root(right)).finalize().into()
    }

    fn leaves(count: usize) -> Vec<Sha256Hash> {
        (0..count).map(|number| Sha256::digest(number.to_be_bytes()).into()).collect()
    }

    fn padded(mut leaves: Vec<Sha256Hash>, width: usize) -> Vec<Sha256Hash> {
        leaves.resize(width, [0; 32]);
        leaves
    }

    #[test]
    fn one_leaf_is_its_own_root() {
        assert_eq!(root(leaves(1), 0, 1), leaves(1)[0]);
    }

    proptest! {
        #[test]
        fn leaves_beyond_the_end_are_zeros(count in 1_usize..300, wider in 0_u32..4) {
            let width = count.next_power_of_two() << wider;
            prop_assert_eq!(root(leaves(count), 0, width), plain_root(&padded(leaves(count), width)));
        }

        #[test]
        fn a_layer_leads_to_the_root_of_its_leaves(count in 1_usize..600, height in 0_usize..6) {
            let below = 1 << height;
            let layer: Vec<_> = leaves(count).chunks(below).map(|part| root(part.to_vec(), 0, below)).collect();
            let width = layer.len().next_power_of_two();
            let expected = plain_root(&padded(leaves(count), width * below));
            prop_assert_eq!(root(layer, height, width), expected);
        }
    }
}
