//! A piece's path through a reader: hashed block by block in the receive buffer, written with one call. And each hash kernel.

use std::hint::black_box;
use std::io::IoSlice;
use std::ops::Range;

use btsync::hash::{Kernel, Kernels, Lane, SHA1_BLOCK, compress_lanes};
use btsync::storage::{FileSpec, Layout, Storage};
use btsync::types::BLOCK_SIZE;
use btsync::util::slab::Slab;
use btsync::wire::message::PIECE_HEADER_LENGTH;
use divan::Bencher;
use divan::counter::BytesCount;
use sha1::{Digest, Sha1};

const PIECE: u32 = 16 * BLOCK_SIZE;
/// The pieces of the file that is overwritten again and again, 64 MiB in total.
const PIECES: u64 = 256;

/// A received piece and the ranges of its blocks. Each block follows its message header, so nothing is aligned.
fn received() -> (Slab, Vec<Range<usize>>) {
    let frame = PIECE_HEADER_LENGTH + BLOCK_SIZE as usize;
    let blocks = (PIECE / BLOCK_SIZE) as usize;
    let mut slab = Slab::new(blocks * frame);
    fastrand::Rng::with_seed(1).fill(&mut slab);
    (slab, (0..blocks).map(|n| n * frame + PIECE_HEADER_LENGTH..(n + 1) * frame).collect())
}

fn hash(slab: &[u8], blocks: &[Range<usize>]) -> [u8; 20] {
    let mut sha = Sha1::new();
    for block in blocks {
        sha.update(&slab[block.clone()]);
    }
    sha.finalize().into()
}

/// SHA-1 alone.
#[divan::bench]
fn sha1_by_block(bencher: Bencher) {
    let (slab, blocks) = received();
    bencher.counter(BytesCount::new(PIECE)).bench(|| hash(black_box(&slab), &blocks));
}

/// Pieces in the processor's cache, as many as the kernel takes at once.
#[divan::bench(args = Kernel::detect())]
fn kernel(bencher: Bencher, kernel: Kernel) {
    let pieces = vec![[7; SHA1_BLOCK]; PIECE as usize / SHA1_BLOCK * kernel.width()];
    let kernels = Kernels::with_costs([(kernel, 1.0)]);
    let mut states = vec![[0; 5]; kernel.width()];
    bencher.counter(BytesCount::new(PIECE as usize * kernel.width())).bench_local(|| {
        let pieces = pieces.chunks(PIECE as usize / SHA1_BLOCK);
        let mut lanes: Vec<_> = states.iter_mut().zip(pieces).map(|(state, piece)| Lane::new(state, piece)).collect();
        compress_lanes(&kernels, &mut lanes);
    });
}

/// One `pwritev` per piece over existing pages, then SHA-1.
#[divan::bench]
fn write_and_sha1(bencher: Bencher) {
    write(bencher, |slab, blocks| {
        black_box(hash(slab, blocks));
    });
}

/// One `pwritev` per piece over existing pages.
#[divan::bench]
fn write_alone(bencher: Bencher) {
    write(bencher, |_, _| ());
}

fn write(bencher: Bencher, then: impl Fn(&[u8], &[Range<usize>])) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = FileSpec { path: "pieces".into(), length: PIECES * u64::from(PIECE), is_pad: false };
    let layout = Layout::new(PIECE, vec![file]).expect("a layout");
    let storage = Storage::new(folder.path().into(), layout, 1);
    storage.prepare().expect("a file");
    let (slab, blocks) = received();
    let slices: Vec<IoSlice> = blocks.iter().map(|block| IoSlice::new(&slab[block.clone()])).collect();
    let write = |n| storage.write_vectored_at(n % PIECES * u64::from(PIECE), &slices).expect("room on the disk");
    (0..PIECES).for_each(write); // the first pass also allocates the pages
    let mut n = 0;
    bencher.counter(BytesCount::new(PIECE)).bench_local(|| {
        write(n);
        then(black_box(&slab), &blocks);
        n += 1;
    });
}
