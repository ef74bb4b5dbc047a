//! Peers that send wrong bytes among slow honest ones.

use super::*;
use crate::types::Sha1Hash;

const GOOD: Sha1Hash = [1; 20];
const WRONG: Sha1Hash = [2; 20];

impl Download {
    /// A block of this peer is written.
    pub(super) fn note_content(&mut self, at: usize, block: BlockInfo) {
        if matches!(self.remotes[at].behaviour, PeerBehaviour::Poisons(_)) {
            self.wrong.insert(block);
        } else {
            self.wrong.remove(&block);
        }
    }

    /// Verifies a piece and bans the senders of wrong blocks. Returns whether the piece is right.
    pub(super) fn settle(&mut self, piece: PieceIndex) -> bool {
        let geometry = self.picker.geometry;
        let blocks = (0..geometry.blocks(piece) as usize).map(|at| geometry.block(piece, at));
        let sums: Vec<Sha1Hash> = blocks.map(|block| if self.wrong.contains(&block) { WRONG } else { GOOD }).collect();
        let is_valid = sums.iter().all(|sum| *sum == GOOD);
        if !is_valid {
            self.failures += 1;
            self.smart_ban.record_failure(piece, &self.picker.block_senders(piece), &sums);
        }
        let verdict = self.picker.piece_hashed(piece, is_valid);
        if is_valid {
            for key in self.smart_ban.find_corrupt_senders(piece, &sums) {
                self.ban(key);
            }
        } else if let [only] = verdict.senders[..] {
            self.ban(only);
        }
        if !is_valid {
            self.feed();
        }
        is_valid
    }

    fn ban(&mut self, key: PeerKey) {
        let at = key.0 as usize - 1;
        if !self.banned.contains(&key) {
            self.banned.push(key);
            let remote = &mut self.remotes[at];
            (remote.queue, remote.sending) = (VecDeque::new(), VecDeque::new());
            remote.requests.remove_all();
            self.picker.remove_peer(key);
            self.feed();
        }
    }
}

/// How long a download of `pieces` pieces of `piece` bytes takes from honest peers of a rate and from poisoners of a rate, each of
/// which sends `blocks` blocks.
fn download(piece: u32, pieces: u64, honest: (usize, f64), poisoners: (usize, f64), blocks: usize) -> f64 {
    let mut download = Download::new(piece, u64::from(piece) * pieces);
    download.join(poisoners.0, PeerBehaviour::Poisons(blocks), MS * 50, poisoners.1);
    download.join(honest.0, PeerBehaviour::Answers, MS * 50, honest.1);
    download.unchoked();
    let took = download.finish(MS * 50, SECOND * 3600).as_secs_f64();
    assert!(download.banned.iter().all(|key| key.0 as usize <= poisoners.0), "an honest peer is banned");
    assert!(download.wrong.is_empty());
    let failures = download.failures;
    assert!(failures <= 3 + poisoners.0 * 2, "{failures} failures");
    took
}

/// Each honest peer is slow: it needs more than 20 seconds for a piece, so that peers share pieces.
#[test]
fn poisoners_among_slow_seeds_delay_a_download_by_a_few_pieces() {
    for (piece, pieces, honest) in
        [(4 << 20, 4, (1, 150.0 * KIB)), (1 << 20, 2, (10, 45.0 * KIB)), (1 << 20, 32, (5, 45.0 * KIB))]
    {
        let control = download(piece, pieces, honest, (0, KIB), 0);
        let alone = f64::from(piece) / honest.1;
        for count in [1, 3, 10] {
            for rate in [4.0 * KIB, 45.0 * KIB, 150.0 * KIB] {
                for blocks in [usize::MAX, 20] {
                    let took = download(piece, pieces, honest, (count, rate), blocks);
                    let most = 2.0 * control + (2 + count / 2) as f64 * alone;
                    assert!(
                        took < most,
                        "{took:.0} s instead of {control:.0} with {count} poisoners of {rate} bytes/s"
                    );
                }
            }
        }
    }
}

/// The peer that takes a doubtful piece over, and chokes and unchokes us before it sends any of it.
#[test]
fn a_peer_that_chokes_again_and_again_does_not_keep_a_doubtful_piece() {
    let context = |per_block| PickContext { now: SECOND, speed: Speed::Fast, answer_time: Some(MS * 20), per_block };
    let (flapping, honest, piece) = (PeerKey(1), PeerKey(2), PieceIndex(0));
    for honest_context in [context(MS * 40), PickContext::unproven(SECOND, Speed::Fast)] {
        let mut picker = Picker::new(16 * BLOCK_SIZE, u64::from(16 * BLOCK_SIZE), Bitfield::new(1), 1);
        for key in [flapping, honest] {
            picker.add_peer(key);
            picker.set_bitfield(key, Bitfield::full(1));
        }
        picker.parole.begin(piece, &[flapping, honest]);
        let (mut held, mut asked) = (Vec::new(), Vec::new());
        picker.pick(flapping, 32, context(MS), &mut held);
        assert_eq!(held.len(), 16);
        for flap in 0.. {
            assert!(flap < 100, "the honest peer does not get to send the piece");
            picker.release(flapping, &held);
            held.clear();
            picker.pick(honest, 32, honest_context, &mut asked);
            picker.pick(flapping, 32, context(MS), &mut held);
            picker.check_invariants();
            // It answers one request until the next flap.
            let block = asked.remove(0);
            if picker.accept(honest, block, &mut Vec::new()) == BlockVerdict::Take
                && picker.written(honest, block) == Some(piece)
            {
                break;
            }
            if asked.is_empty() || !held.is_empty() {
                asked.clear();
            }
        }
    }
}

/// A peer on parole that has sent nothing cannot discard the blocks of a stalled peer while another peer could.
#[test]
fn a_peer_on_parole_without_credit_leaves_the_piece_of_a_stalled_peer_to_others() {
    let fast = PickContext::unproven(SECOND, Speed::Fast);
    let (stalled, fresh, other, piece) = (PeerKey(1), PeerKey(2), PeerKey(3), PieceIndex(0));
    let mut picker = Picker::new(4 * BLOCK_SIZE, u64::from(4 * BLOCK_SIZE), Bitfield::new(1), 1);
    for key in [stalled, fresh, other] {
        picker.add_peer(key);
        picker.set_bitfield(key, Bitfield::full(1));
    }
    picker.parole.begin(piece, &[stalled, fresh]);
    let (mut asked, mut out) = (Vec::new(), Vec::new());
    picker.pick(stalled, 4, fast, &mut asked);
    assert_eq!(picker.accept(stalled, asked[0], &mut Vec::new()), BlockVerdict::Take);
    picker.written(stalled, asked[0]);
    picker.pick(other, 0, fast, &mut out);
    picker.mark_stalled(stalled);
    picker.pick(fresh, 4, fast, &mut out);
    assert_eq!(out, []);
    picker.pick(other, 4, fast, &mut out);
    assert_eq!(out.len(), 4);
    picker.check_invariants();
}
