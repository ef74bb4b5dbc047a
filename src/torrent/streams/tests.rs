//! Readers of a torrent whose pieces arrive one by one.

use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::unbounded;

use super::*;
use crate::peer::ContextSettings;
use crate::pieces::{BlockDecisions, PieceManager};
use crate::storage::{FileSpec, Layout, Storage};
use crate::strategy::picker::{PickContext, Speed};
use crate::strategy::pipeline::EndGameLimit;
use crate::types::{BLOCK_SIZE, Bitfield, PeerKey};

const SEED: PeerKey = PeerKey(1);
const PIECES: u32 = 200;

/// A torrent of pieces of one block, with one seed.
fn context() -> Arc<TorrentContext> {
    let file = FileSpec { path: "x".into(), length: u64::from(PIECES * BLOCK_SIZE), is_pad: false };
    let layout = Layout::new(BLOCK_SIZE, vec![file]).expect("a layout");
    let storage = Arc::new(Storage::new("nowhere".into(), layout, 4)); // never opened
    let pieces = PieceManager::new(storage, vec![[0; 20]; PIECES as usize], Bitfield::new(PIECES));
    pieces.add_peer(SEED);
    pieces.set_bitfield(SEED, Bitfield::full(PIECES));
    TorrentContext::new(ContextSettings::unconnected(), pieces, unbounded().0)
}

/// Downloads the piece that the picker chooses next.
fn verify_next(context: &TorrentContext) -> u32 {
    let (mut blocks, pieces) = (Vec::new(), &context.pieces);
    let pick_context = PickContext::unproven(Duration::ZERO, Speed::Fast);
    let limit = EndGameLimit { outstanding: 0, least: 1, is_proven: false };
    pieces.pick(SEED, 1, pick_context, limit, 1.0, &mut blocks);
    let mut complete = Vec::new();
    pieces.accept(SEED, blocks.iter().copied(), &mut BlockDecisions::default());
    pieces.written(SEED, blocks.into_iter(), &mut complete);
    pieces.piece_hashed(complete[0], true);
    complete[0].0
}

/// A waker, and how often it was called.
fn waker() -> (StreamWaker, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counts = calls.clone();
    (Arc::new(move || _ = counts.fetch_add(1, Ordering::SeqCst)), calls)
}

#[test]
fn readers_get_their_pieces_first_and_in_turn_and_are_woken_once() {
    let (context, registry) = (context(), Arc::new(StreamRegistry::default()));
    let weak = Arc::downgrade(&registry);
    context.pieces.on_verified(move |piece| weak.upgrade().iter().for_each(|registry| registry.piece_verified(piece)));
    let [first, second] = [(); 2].map(|()| registry.open(None).expect("a place"));
    let (wakes, wake_second) = (waker(), waker());
    let poll = |id, pieces, wake: &StreamWaker| registry.poll(id, Some(&context), pieces, wake);
    assert_eq!(poll(first, 50..120, &wakes.0).expect("a piece"), 0);
    assert_eq!(poll(second, 150..152, &wake_second.0).expect("a piece"), 0);
    assert_eq!(verify_next(&context), 50);
    let calls = || [&wakes.1, &wake_second.1].map(|calls| calls.load(Ordering::SeqCst));
    assert_eq!(calls(), [1, 0]);
    assert_eq!(std::array::from_fn(|_| verify_next(&context)), [150, 51, 151, 52]);
    assert_eq!(calls(), [1, 1], "nobody waits for the others");
    assert_eq!(poll(first, 50..120, &wakes.0).expect("a piece"), 3);
    assert_eq!(registry.waiting.get(), 0);

    // A reader that seeks takes its window with it.
    assert_eq!(poll(first, 10..12, &wakes.0).expect("a piece"), 0);
    assert_eq!(std::array::from_fn(|_| verify_next(&context)), [10, 11]);
    assert_eq!(calls(), [2, 1]);
    poll(first, 80..120, &wakes.0).expect("a piece");
    registry.close(first, Some(&context));
    assert_eq!(registry.waiting.get(), 0);
    let rest: Vec<u32> = (0..20).map(|_| verify_next(&context)).collect();
    assert!(rest.iter().any(|piece| !(80..120).contains(piece)), "nobody reads any more: {rest:?}");
}

#[test]
fn a_stream_seeks_if_it_waits_for_a_piece_that_does_not_follow_what_it_read() {
    let (context, registry) = (context(), StreamRegistry::default());
    let (wake, id) = (waker().0, registry.open(None).expect("a place"));
    let poll = |context, pieces| registry.poll(id, context, pieces, &wake).expect("a piece");
    poll(None, 50..120);
    registry.refresh(&context);
    assert_eq!((poll(Some(&*context), 50..120), context.pieces.seek_count()), (0, 1), "once the files are checked");
    assert_eq!((poll(Some(&*context), 50..120), context.pieces.seek_count()), (0, 1), "it only asked again");
    assert_eq!([(); 3].map(|()| verify_next(&context)), [50, 51, 52]);
    assert_eq!((poll(Some(&*context), 51..120), poll(Some(&*context), 53..120)), (2, 0));
    assert_eq!(context.pieces.seek_count(), 1, "it reads on");
    assert_eq!((poll(Some(&*context), 54..120), context.pieces.seek_count()), (0, 2), "piece 53 is not there");
    assert_eq!((poll(Some(&*context), 50..120), context.pieces.seek_count()), (3, 2), "it need not wait");
    assert_eq!((poll(Some(&*context), 53..120), context.pieces.seek_count()), (0, 3), "now it must");
    assert_eq!((poll(Some(&*context), 20..120), context.pieces.seek_count()), (0, 4));
}

#[test]
fn a_reader_waits_for_the_check_and_ends_with_the_torrent() {
    let registry = StreamRegistry::default();
    let (wakes, id) = (waker(), registry.open(None).expect("a place"));
    assert_eq!(registry.poll(id, None, 0..9, &wakes.0).expect("it may start"), 0);
    let context = context();
    registry.refresh(&context);
    let no_piece = registry.poll(id, Some(&context), PIECES..PIECES + 1, &wakes.0).expect_err("no such piece");
    assert_eq!((no_piece.kind(), registry.waiting.get()), (io::ErrorKind::InvalidInput, 0));
    assert_eq!(registry.poll(id, Some(&context), 7..9, &wakes.0).expect("a piece"), 0);
    registry.end();
    assert_eq!(wakes.1.load(Ordering::SeqCst), 2);
    let ended = registry.poll(id, Some(&context), 7..9, &wakes.0).expect_err("it has ended");
    assert_eq!(ended.kind(), io::ErrorKind::NotConnected);
}

#[test]
fn a_client_with_many_readers_keeps_no_other_out() {
    let registry = StreamRegistry::default();
    let open = |client: [u8; 4]| registry.open(Some(client.into())).expect("a place");
    let own = registry.open(None).expect("a place");
    let owner = open([192, 168, 1, 2]);
    let others: Vec<u64> = (2..MAX_STREAMS).map(|_| open([203, 0, 113, 7])).collect();
    let wakes: Vec<_> = (0..MAX_STREAMS).map(|_| waker()).collect();
    let poll =
        |id: u64| registry.poll(id, None, 0..9, &wakes[id as usize % MAX_STREAMS].0).map_err(|error| error.kind());
    for id in [own, owner].iter().chain(&others) {
        assert_eq!(poll(*id), Ok(0));
    }
    open([203, 0, 113, 7]);
    open([192, 168, 1, 3]);
    let replaced = |id: &u64| wakes[*id as usize].1.load(Ordering::SeqCst) == 1;
    assert!(
        others[..2].iter().all(replaced) && !others[2..].iter().any(replaced) && !replaced(&own) && !replaced(&owner)
    );
    assert_eq!([poll(others[0]), poll(others[2]), poll(owner)], [Err(io::ErrorKind::ConnectionAborted), Ok(0), Ok(0)]);
    assert_eq!(registry.waiting.get(), MAX_STREAMS - 2);
}

#[test]
fn readers_are_bounded() {
    let registry = StreamRegistry::default();
    let all: Vec<u64> = std::iter::from_fn(|| registry.open(None)).collect();
    assert_eq!(all.len(), MAX_STREAMS);
    registry.close(all[3], None);
    assert!(registry.open(None).is_some_and(|id| !all.contains(&id)) && registry.open(None).is_none());
    let lists: Vec<Vec<PieceIndex>> =
        [vec![1, 2, 3], vec![], vec![7], vec![8, 9]].map(|list| list.into_iter().map(PieceIndex).collect()).into();
    assert_eq!(interleaved(&lists), [1, 7, 8, 2, 9, 3].map(PieceIndex));
}
