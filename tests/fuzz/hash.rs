//! The target of the hash kernels: several streams with data of any length in steps of any length.

use btsync::hash::{Kernel, Kernels, Lane, Sha1Stream, StreamUpdate, compress_lanes, update_all};
use btsync::types::Sha1Hash;
use sha1::{Digest, Sha1};

/// The first byte is the number of streams; each further byte takes that many bytes of the rest for the next stream. Every kernel and the
/// measured choice must find the hashes that the `sha1` crate finds.
pub fn hash(bytes: &[u8]) -> bool {
    let Some((&first, mut rest)) = bytes.split_first() else { return false };
    let count = usize::from(first % 20) + 1;
    let mut streams = vec![Sha1Stream::new(); count];
    let mut messages = vec![Vec::new(); count];
    while !rest.is_empty() {
        let mut parts: Vec<&[u8]> = vec![&[]; count];
        for part in &mut parts {
            let Some((&length, after)) = rest.split_first() else { break };
            // Longer than a block now and then.
            let (now, later) = after.split_at(after.len().min(usize::from(length) * 3));
            (*part, rest) = (now, later);
        }
        for (message, part) in messages.iter_mut().zip(&parts) {
            message.extend_from_slice(part);
        }
        let updates = streams.iter_mut().zip(parts).map(|(stream, data)| StreamUpdate { stream, data });
        update_all(&mut updates.collect::<Vec<_>>());
    }
    for (stream, message) in streams.into_iter().zip(&messages) {
        assert_eq!(stream.finish(), Sha1Hash::from(Sha1::digest(message)), "{} bytes", message.len());
    }
    whole_blocks(&messages);
    true
}

/// The whole blocks of each message from any state, with each kernel alone.
fn whole_blocks(messages: &[Vec<u8>]) {
    let start = [1, 2, 3, 4, 5];
    let mut expected = vec![start; messages.len()];
    for (state, message) in expected.iter_mut().zip(messages) {
        sha1::block_api::compress(state, message.as_chunks().0);
    }
    for kernel in Kernel::detect() {
        let mut states = vec![start; messages.len()];
        let lanes = states.iter_mut().zip(messages).map(|(state, message)| Lane::new(state, message.as_chunks().0));
        compress_lanes(&Kernels::with_costs([(kernel, 1.0)]), &mut lanes.collect::<Vec<_>>());
        assert_eq!(states, expected, "{kernel}");
    }
}
