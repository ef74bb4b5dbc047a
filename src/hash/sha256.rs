//! SHA-256 of blocks of 16 KiB, the leaves of BitTorrent v2's trees (BEP 52), and of short messages.

use crate::hash::Sha256State;
use crate::hash::kernels::compress_two;
use crate::types::{BLOCK_SIZE, Sha256Hash};

/// The length of the blocks that SHA-256 works on, in bytes.
const SHA256_BLOCK: usize = 64;

const INITIAL_STATE: Sha256State =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The hash of one message.
pub fn sha256(message: &[u8]) -> Sha256Hash {
    let mut state = INITIAL_STATE;
    let (blocks, tail) = message.as_chunks::<SHA256_BLOCK>();
    sha2::block_api::compress256(&mut state, blocks);
    let (padding, count) = padding(tail, message.len());
    sha2::block_api::compress256(&mut state, &padding[..count]);
    digest(&state)
}

/// Appends the hash of each block of 16 KiB of `data`, whose last block may be shorter.
pub fn digest_blocks(data: &[u8], hashes: &mut Vec<Sha256Hash>) {
    let mut pairs = data.chunks_exact(2 * BLOCK_SIZE as usize);
    for pair in &mut pairs {
        let (one, other) = pair.split_at(BLOCK_SIZE as usize);
        hashes.extend(digest_two([one, other]));
    }
    hashes.extend(pairs.remainder().chunks(BLOCK_SIZE as usize).map(sha256));
}

/// The hashes of two blocks of 16 KiB.
fn digest_two(messages: [&[u8]; 2]) -> [Sha256Hash; 2] {
    let mut states = [INITIAL_STATE; 2];
    let (end, count) = padding(&[], BLOCK_SIZE as usize);
    compress_two(&mut states, messages.map(|message| message.as_chunks().0));
    compress_two(&mut states, [&end[..count]; 2]);
    states.map(|state| digest(&state))
}

/// The last one or two blocks of a message of `length` bytes that ends with `tail`: these bytes, a one bit, zeros, and the length
/// in bits.
fn padding(tail: &[u8], length: usize) -> ([[u8; SHA256_BLOCK]; 2], usize) {
    let mut blocks = [[0; SHA256_BLOCK]; 2];
    let count = if tail.len() < SHA256_BLOCK - 8 { 1 } else { 2 };
    let bytes = &mut blocks.as_flattened_mut()[..count * SHA256_BLOCK];
    bytes[..tail.len()].copy_from_slice(tail);
    bytes[tail.len()] = 0x80;
    bytes[count * SHA256_BLOCK - 8..].copy_from_slice(&(length as u64 * 8).to_be_bytes());
    (blocks, count)
}

fn digest(state: &Sha256State) -> Sha256Hash {
    let mut digest = Sha256Hash::default();
    for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    digest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn reference(message: &[u8]) -> Sha256Hash {
        Sha256::digest(message).into()
    }

    #[test]
    fn messages_of_all_lengths_around_a_block_have_their_hashes() {
        let message: Vec<u8> = (0..=255).collect();
        for length in 0..=message.len() {
            assert_eq!(sha256(&message[..length]), reference(&message[..length]), "{length} bytes");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn each_block_has_its_hash(length in 0_usize..200_000, seed in any::<u64>()) {
            let mut rng = fastrand::Rng::with_seed(seed);
            let data: Vec<u8> = (0..length).map(|_| rng.u8(..)).collect();
            let mut hashes = vec![[7; 32]];
            digest_blocks(&data, &mut hashes);
            let expected: Vec<_> = data.chunks(BLOCK_SIZE as usize).map(reference).collect();
            prop_assert_eq!(&hashes[1..], &expected[..]);
            prop_assert_eq!(hashes[0], [7; 32]);
        }
    }
}
