//! Parsing frames from a slab of received bytes, and encoding requests.

use std::hint::black_box;

use btsync::types::{BLOCK_SIZE, BlockInfo, PieceIndex};
use btsync::util::slab::Slab;
use btsync::wire::message;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

/// The most bytes a reader receives at once.
const SLAB: usize = 256 * 1024;

/// A slab filled with as many copies of `frame` as fit, and their total length in bytes.
fn filled(frame: &[u8]) -> (Slab, usize) {
    let mut slab = Slab::new(SLAB);
    let mut length = 0;
    for chunk in slab.chunks_exact_mut(frame.len()) {
        chunk.copy_from_slice(frame);
        length += frame.len();
    }
    (slab, length)
}

/// Parses every frame, as the reader does.
fn walk(mut bytes: &[u8]) -> usize {
    let mut frames = 0;
    while let Ok(Some((found, length))) = message::parse(bytes) {
        black_box(&found);
        bytes = bytes.get(length..).unwrap_or_default();
        frames += 1;
    }
    frames
}

fn split(bencher: Bencher, frame: &[u8]) {
    let (slab, length) = filled(frame);
    let bytes = slab.get(..length).expect("what was filled");
    let frames = walk(bytes);
    assert_eq!(frames, length / frame.len());
    bencher.counter(ItemsCount::new(frames)).counter(BytesCount::new(length)).bench(|| walk(black_box(bytes)));
}

/// A slab of blocks, as a downloader receives them.
#[divan::bench]
fn split_blocks(bencher: Bencher) {
    let mut frame =
        message::piece_header(BlockInfo { piece: PieceIndex(7), begin: BLOCK_SIZE, length: BLOCK_SIZE }).to_vec();
    frame.resize(frame.len() + BLOCK_SIZE as usize, 0);
    split(bencher, &frame);
}

/// A slab of requests, as a seeder receives them.
#[divan::bench]
fn split_requests(bencher: Bencher) {
    let mut frame = Vec::new();
    message::write_request(&mut frame, BlockInfo { piece: PieceIndex(7), begin: BLOCK_SIZE, length: BLOCK_SIZE });
    split(bencher, &frame);
}

/// A slab of HAVEs, as every peer of a large swarm receives them.
#[divan::bench]
fn split_haves(bencher: Bencher) {
    let mut frame = Vec::new();
    message::write_have(&mut frame, PieceIndex(7));
    split(bencher, &frame);
}

/// Encodes a batch of requests into the writer's buffer.
#[divan::bench(args = [16, 64, 512])]
fn encode_requests(bencher: Bencher, count: u32) {
    let block = |n| BlockInfo { piece: PieceIndex(n / 16), begin: n % 16 * BLOCK_SIZE, length: BLOCK_SIZE };
    let blocks: Vec<BlockInfo> = (0..count).map(block).collect();
    let mut out = Vec::with_capacity(17 * blocks.len());
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        out.clear();
        for &block in black_box(&blocks) {
            message::write_request(&mut out, block);
        }
        black_box(&out).len()
    });
}
