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
