use proptest::prelude::*;
use sha1::{Digest as _, Sha1};

use super::*;

fn reference(data: &[u8]) -> Sha1Hash {
    Sha1::digest(data).into()
}

/// Data that does not repeat, from a seed.
fn data(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

/// Each kernel alone, and the measured choice.
fn choices() -> Vec<Kernels> {
    let alone = Kernel::detect().into_iter().map(|kernel| Kernels::with_costs([(kernel, 1.0)]));
    alone.chain([Kernels::chosen().clone()]).collect()
}

/// The hashes of the messages if each is appended to its stream in steps of the given lengths.
fn hash_in_steps(kernels: &Kernels, messages: &[Vec<u8>], steps: &[Vec<usize>]) -> Vec<Sha1Hash> {
    let mut streams = vec![Sha1Stream::new(); messages.len()];
    let mut places = vec![0; messages.len()];
    for step in steps {
        let mut lanes = Vec::new();
        for (number, stream) in streams.iter_mut().enumerate() {
            let rest = &messages[number][places[number]..];
            let now = &rest[..rest.len().min(step[number])];
            places[number] += now.len();
            let blocks = stream.take_blocks(now);
            lanes.push(Lane::new(&mut stream.state, blocks));
        }
        compress_lanes(kernels, &mut lanes);
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.update(&messages[number][places[number]..]);
    }
    streams.into_iter().map(Sha1Stream::finish).collect()
}

#[test]
fn the_standard_s_examples() {
    let hex = |digest: Sha1Hash| digest.map(|byte| format!("{byte:02x}")).concat();
    assert_eq!(hex(Sha1Stream::new().finish()), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    let [abc, long] = *digest_all(&[b"abc", b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"]) else {
        panic!("two hashes for two messages");
    };
    assert_eq!(hex(abc), "a9993e364706816aba3e25717850c26c9cd0d89d");
    assert_eq!(hex(long), "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
}

#[test]
fn every_length_up_to_four_blocks_in_every_kernel() {
    for kernels in choices() {
        let width = kernels.fastest().width();
        assert!(width <= MAX_WIDTH, "{}", kernels.fastest());
        for length in 0..=4 * SHA1_BLOCK {
            let messages: Vec<_> = (0..width).map(|lane| data(length, lane as u64)).collect();
            let hashes = hash_in_steps(&kernels, &messages, &[vec![length; width]]);
            let expected: Vec<_> = messages.iter().map(|message| reference(message)).collect();
            assert_eq!(hashes, expected, "{length} bytes, {}", kernels.fastest());
        }
    }
}

#[test]
fn fewer_streams_than_places_and_more() {
    for kernels in choices() {
        for count in 1..=2 * kernels.fastest().width() + 1 {
            let messages: Vec<_> = (0..count).map(|lane| data(300 + 97 * lane, lane as u64)).collect();
            let hashes = hash_in_steps(&kernels, &messages, &[vec![usize::MAX; count]]);
            let expected: Vec<_> = messages.iter().map(|message| reference(message)).collect();
            assert_eq!(hashes, expected, "{count} streams, {}", kernels.fastest());
        }
    }
}

#[test]
fn the_cheapest_kernel_for_the_number_of_streams_is_chosen() {
    let all = Kernel::detect();
    let widest = *all.iter().max_by_key(|kernel| kernel.width()).expect("at least one");
    // The widest takes 2.5 times as long as the kernel for one stream.
    let kernels = Kernels::with_costs([(Kernel::SINGLE, 1.0), (widest, 2.5)]);
    assert_eq!(kernels.best_for(1), Kernel::SINGLE);
    assert_eq!(kernels.best_for(2), Kernel::SINGLE);
    let expected = if widest.width() > 2 { widest } else { Kernel::SINGLE };
    assert_eq!((kernels.best_for(3), kernels.fastest()), (expected, expected));
}

#[test]
fn lengths_beyond_32_bits_are_counted() {
    let chunk = vec![7; 1 << 20];
    let mut stream = Sha1Stream { length: u64::from(u32::MAX) - 63, ..Sha1Stream::new() };
    stream.update(&chunk);
    assert_eq!(stream.length, u64::from(u32::MAX) - 63 + (1 << 20));
    // The padding has the length in bits in 64 bits: the same blocks with another length yield another hash.
    let mut shorter = Sha1Stream::new();
    shorter.update(&chunk);
    assert_ne!(stream.finish(), shorter.finish());
}

proptest! {
    #[test]
    fn streams_of_any_length_in_steps_of_any_length(
        lengths in proptest::collection::vec(0usize..2_000, 1..20),
        steps in proptest::collection::vec(proptest::collection::vec(0usize..700, 20), 0..6),
    ) {
        let messages: Vec<_> = lengths.iter().enumerate().map(|(lane, length)| data(*length, lane as u64)).collect();
        let expected: Vec<_> = messages.iter().map(|message| reference(message)).collect();
        for kernels in choices() {
            prop_assert_eq!(&hash_in_steps(&kernels, &messages, &steps), &expected, "{}", kernels.fastest());
        }
    }
}

/// Also without any optimisation, as programs that use the library are built while they are developed.
#[test]
fn a_kernel_needs_no_more_than_half_of_the_stack_of_a_peers_thread() {
    for kernel in Kernel::detect() {
        let hashes = move || {
            let data = [[0; SHA1_BLOCK]; 2];
            let mut states = vec![INITIAL_STATE; kernel.width()];
            let mut lanes: Vec<_> = states.iter_mut().map(|state| Lane::new(state, &data)).collect();
            kernel.compress(&mut lanes, 2);
        };
        let thread = std::thread::Builder::new().stack_size(128 * 1024).spawn(hashes).expect("a thread");
        thread.join().expect("no panic");
    }
}
