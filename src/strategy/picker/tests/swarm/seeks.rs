//! Streams that seek in a torrent of simulated peers.

use super::*;

const PIECE: u32 = 256 * 1024;
/// How many pieces ahead of a stream are urgent.
const AHEAD: u32 = 64;

impl Download {
    /// A stream seeks to this piece, as `StreamRegistry::poll` and `refill_for_seek` handle it.
    fn seek(&mut self, piece: u32, seeks: u64) {
        self.picker.set_urgent((piece..piece + AHEAD).map(PieceIndex));
        let mut order: Vec<usize> = (0..self.remotes.len()).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(self.remotes[at].requests.round_rate().unwrap_or_default() as u64));
        for at in order {
            self.follow(at, seeks);
            self.refill(at);
        }
    }

    /// As `Peer::follow_seeks`.
    fn follow(&mut self, at: usize, seeks: u64) {
        let (now, remote) = (self.now, &mut self.remotes[at]);
        let urgent = self.picker.most_urgent_for(remote.key);
        let cancelled = remote.requests.cancel_for_seek(now, seeks, |block| urgent.contains(&block.piece));
        self.picker.release_cancelled(remote.key, &cancelled);
        for block in self.remotes[at].requests.take_cancels() {
            self.cancel(at, block);
        }
    }

    /// How long it takes until this piece is verified.
    fn wait_for(&mut self, piece: u32) -> Duration {
        let start = self.now;
        while !self.picker.have().has(PieceIndex(piece)) {
            assert!(self.now < start + SECOND * 60, "piece {piece} does not come");
            self.step(MS * 5);
        }
        self.picker.check_invariants();
        self.now.saturating_sub(start)
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step(MS * 5);
        }
    }
}

/// A download of 64 MiB that has run for some seconds.
fn running(rates: &[f64]) -> Download {
    let mut download = Download::new(PIECE, 64 << 20);
    for &rate in rates {
        download.join(1, PeerBehaviour::Answers, MS * 40, rate);
    }
    download.unchoked();
    download.run(SECOND * 8);
    download
}

/// Four peers with three seconds of requests each: without cancels, the first piece after a seek takes more than three seconds.
#[test]
fn a_seek_waits_for_little_more_than_its_first_piece() {
    for rates in [[256.0; 4], [512.0, 256.0, 256.0, 256.0], [256.0, 256.0, 256.0, 16.0]] {
        let mut download = running(&rates.map(|rate| rate * KIB));
        let total: f64 = rates.iter().sum();
        let ideal = f64::from(PIECE) / KIB / total;
        for seek in 1..8 {
            let piece = (seek as u32 * 101) % 190;
            if download.picker.have().has(PieceIndex(piece)) {
                continue;
            }
            download.seek(piece, seek);
            let took = download.wait_for(piece).as_secs_f64();
            assert!(took < ideal + 0.5, "{took} s for a piece that takes {ideal} s, with {rates:?}");
            download.run(SECOND * 3);
        }
        assert!(download.wasted * 100 <= download.arrived, "{} of {} wasted", download.wasted, download.arrived);
    }
}

/// A user drags the position to and fro.
#[test]
fn many_seeks_lose_no_block_and_waste_little() {
    let mut download = running(&[MIB, MIB, 256.0 * KIB, 64.0 * KIB]);
    for seek in 1..=100 {
        let piece = (seek as u32 * 37) % 190;
        download.seek(piece, seek);
        download.run(MS * 150);
        download.picker.check_invariants();
    }
    download.picker.set_urgent([]);
    download.finish(MS * 5, SECOND * 120);
    let blocks = 64 << 20 >> 14;
    assert_eq!(download.arrived - download.wasted, blocks, "each block once");
    assert!(download.wasted * 50 <= blocks, "{} of {blocks} wasted", download.wasted);
}
