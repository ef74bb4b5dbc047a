//! The recheck of data on disk, read from the page cache.

use std::io::IoSlice;
use std::sync::atomic::AtomicBool;

use btsync::storage::{self, CheckProgress, FileSpec, Layout, Storage};
use btsync::types::Sha1Hash;
use btsync::util::slab::Slab;
use divan::Bencher;
use divan::counter::BytesCount;
use sha1::{Digest, Sha1};

const PIECE: u32 = 1 << 20;
const PIECES: u32 = 256;

/// Writes random pieces to disk and returns their hashes.
fn on_disk(storage: &Storage) -> Vec<Sha1Hash> {
    storage.prepare().expect("a file");
    let mut rng = fastrand::Rng::with_seed(1);
    let mut slab = Slab::new(PIECE as usize);
    let mut piece = |n| {
        rng.fill(&mut slab);
        storage.write_vectored_at(u64::from(n) * u64::from(PIECE), &[IoSlice::new(&slab)]).expect("room on the disk");
        Sha1::digest(&*slab).into()
    };
    (0..PIECES).map(&mut piece).collect()
}

/// Checks 256 MiB with this many threads; 0 stands for one per core.
#[divan::bench(args = [1, 0], sample_count = 10, sample_size = 1)]
fn threads(bencher: Bencher, threads: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let length = u64::from(PIECES) * u64::from(PIECE);
    let file = FileSpec { path: "pieces".into(), length, is_pad: false };
    let layout = Layout::new(PIECE, vec![file]).expect("a layout");
    let storage = Storage::new(folder.path().into(), layout, 1);
    let hashes = on_disk(&storage);
    let (progress, stop) = (CheckProgress::default(), AtomicBool::new(false));
    bencher.counter(BytesCount::new(length)).bench_local(|| {
        let have = storage::check(&storage, &hashes, threads, &progress, &stop).expect("a readable file");
        assert!(have.is_full());
    });
}
