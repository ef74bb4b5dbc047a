//! Downloads from simulated peers: the picker, each peer's request pipeline, links with a rate and a round trip time, and a
//! simulated clock. The order of calls is that of `peer/state.rs` and `peer/deadline.rs`.

mod poison;
mod seeks;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::strategy::picker::*;
use crate::strategy::pipeline::{DEFAULT_REQQ, RequestPipeline};
use crate::strategy::smart_ban::SmartBan;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;

/// How a peer answers requests.
#[derive(Clone, Copy, PartialEq)]
enum PeerBehaviour {
    Answers,
    /// The same, but no part of a block arrives before all of it.
    AnswersInBlocks,
    /// Never sends a whole block, only this many bytes per second of one.
    Stalls(f64),
    /// Sends this many blocks, then nothing.
    StallsAfter(usize),
    /// Answers with wrong bytes, and after this many blocks not at all.
    Poisons(usize),
}

struct SimulatedPeer {
    key: PeerKey,
    behaviour: PeerBehaviour,
    requests: RequestPipeline,
    rtt: Duration,
    per_block: Duration,
    /// Requests that it has not started to answer, with the time when each reached it.
    queue: VecDeque<(Duration, BlockInfo)>,
    /// Blocks that it sends, with the times when each began and has arrived.
    sending: VecDeque<(Duration, Duration, BlockInfo)>,
    free: Duration,
    /// Requests since the test last looked.
    news: Vec<BlockInfo>,
    asked: usize,
    sent: usize,
}

struct Download {
    picker: Picker,
    remotes: Vec<SimulatedPeer>,
    now: Duration,
    piece: u32,
    wasted: usize,
    /// How many blocks had arrived when the first piece was complete, and when that was.
    first_whole: Option<usize>,
    first_at: Duration,
    arrived: usize,
    most_begun: usize,
    /// The wrong blocks on disk.
    wrong: BTreeSet<BlockInfo>,
    smart_ban: SmartBan,
    banned: Vec<PeerKey>,
    failures: usize,
}

impl Download {
    fn new(piece: u32, total: u64) -> Download {
        let pieces = total.div_ceil(u64::from(piece)) as u32;
        let picker = Picker::new(piece, total, Bitfield::new(pieces), 5);
        let (remotes, now) = (Vec::new(), SECOND);
        Download {
            picker,
            remotes,
            now,
            piece,
            wasted: 0,
            first_whole: None,
            first_at: SECOND,
            arrived: 0,
            most_begun: 0,
            wrong: BTreeSet::new(),
            smart_ban: SmartBan::default(),
            banned: Vec::new(),
            failures: 0,
        }
    }

    fn join(&mut self, count: usize, behaviour: PeerBehaviour, rtt: Duration, bytes_per_second: f64) {
        for _ in 0..count {
            let key = PeerKey(self.remotes.len() as u32 + 1);
            self.picker.add_peer(key);
            self.picker.set_bitfield(key, Bitfield::full(self.picker.geometry.pieces));
            let per_block = Duration::from_secs_f64(f64::from(BLOCK_SIZE) / bytes_per_second);
            let (queue, sending, free) = (VecDeque::new(), VecDeque::new(), Duration::ZERO);
            let requests = RequestPipeline::new(DEFAULT_REQQ);
            let remote = SimulatedPeer {
                key,
                behaviour,
                requests,
                rtt,
                per_block,
                queue,
                sending,
                free,
                news: Vec::new(),
                asked: 0,
                sent: 0,
            };
            self.remotes.push(remote);
        }
    }

    /// All peers unchoke us.
    fn unchoked(&mut self) {
        let count = self.remotes.len();
        for at in 0..count {
            self.remotes[at].requests.limit_start_by_peers(count, self.piece);
            self.refill(at);
        }
    }

    fn refill(&mut self, at: usize) {
        let flows: f64 = self.remotes.iter().filter_map(|remote| remote.requests.round_rate()).sum();
        let (now, count) = (self.now, self.remotes.len());
        let remote = &mut self.remotes[at];
        let (want, pick_context) = (remote.requests.want(), remote.requests.pick_context(now, self.piece));
        let share = remote.requests.round_rate().map_or(1.0 / count as f64, |flow| flow / flows.max(1.0));
        let want = remote.requests.end_game_limit().limit(want, self.picker.missing_wanted_blocks(), share);
        if remote.requests.want() == 0 {
            return;
        }
        let mut blocks = Vec::new();
        let again = self.picker.pick(remote.key, want, pick_context, &mut blocks);
        remote.requests.set_repick_at(again);
        remote.requests.add(now, &blocks);
        remote.asked += blocks.len();
        remote.news.extend(&blocks);
        remote.queue.extend(blocks.into_iter().map(|block| (now + remote.rtt / 2, block)));
        self.most_begun = self.most_begun.max(self.picker.begun.len());
    }

    fn feed(&mut self) {
        let mut idle: Vec<usize> = (0..self.remotes.len()).filter(|&at| self.remotes[at].requests.is_empty()).collect();
        idle.sort_by_key(|&at| self.remotes[at].requests.round_rate().is_none());
        for at in idle {
            self.refill(at);
        }
    }

    fn cancel(&mut self, at: usize, block: BlockInfo) {
        self.remotes[at].queue.retain(|(_, queued)| *queued != block);
    }

    fn step(&mut self, tick: Duration) {
        self.now += tick;
        for at in 0..self.remotes.len() {
            self.send(at);
            self.receive(at);
            self.watch(at);
        }
    }

    /// Puts the peer's data on the wire until now.
    fn send(&mut self, at: usize) {
        let (now, remote) = (self.now, &mut self.remotes[at]);
        while let Some(&(there, block)) = remote.queue.front()
            && remote.free.max(there) <= now
        {
            let stalls = match remote.behaviour {
                PeerBehaviour::Answers | PeerBehaviour::AnswersInBlocks => false,
                PeerBehaviour::Stalls(_) => true,
                PeerBehaviour::StallsAfter(blocks) | PeerBehaviour::Poisons(blocks) => remote.sent >= blocks,
            };
            if stalls {
                return;
            }
            remote.queue.pop_front();
            let began = remote.free.max(there);
            remote.free = began + remote.per_block;
            remote.sending.push_back((began + remote.rtt / 2, remote.free + remote.rtt / 2, block));
            remote.sent += 1;
        }
    }

    fn receive(&mut self, at: usize) {
        let now = self.now;
        while let Some(&(_, there, block)) = self.remotes[at].sending.front()
            && there <= now
        {
            let remote = &mut self.remotes[at];
            remote.sending.pop_front();
            let (key, mut cancels) = (remote.key, Vec::new());
            let asked = remote.requests.take(now, &block).is_some();
            let accept = self.picker.accept(key, block, &mut cancels);
            if asked || accept == BlockVerdict::Take {
                remote.requests.received(now, 1, u64::from(block.length));
            }
            self.arrived += 1;
            self.wasted += usize::from(accept != BlockVerdict::Take);
            for (other, block) in cancels {
                let other = other.0 as usize - 1;
                if self.remotes[other].requests.remove(&block) {
                    self.cancel(other, block);
                    self.refill(other);
                }
            }
            self.refill(at);
            if accept != BlockVerdict::Take {
                continue;
            }
            self.note_content(at, block);
            if let Some(piece) = self.picker.written(key, block)
                && self.settle(piece)
                && self.first_whole.is_none()
            {
                (self.first_whole, self.first_at) = (Some(self.arrived), now);
            }
        }
        let remote = &mut self.remotes[at];
        let partial = match (remote.behaviour, remote.sending.front()) {
            (PeerBehaviour::Stalls(rate), _) if remote.asked > 0 => rate * now.as_secs_f64(),
            (PeerBehaviour::AnswersInBlocks, _) => 0.0,
            (_, Some((began, there, _))) if now > *began => {
                f64::from(BLOCK_SIZE) * now.saturating_sub(*began).as_secs_f64()
                    / there.saturating_sub(*began).as_secs_f64()
            }
            _ => 0.0,
        };
        if partial >= 1.0 {
            remote.requests.note_partial_block(now, partial as u64);
        }
    }

    /// Does the work of the deadline thread.
    fn watch(&mut self, at: usize) {
        let (now, remote) = (self.now, &mut self.remotes[at]);
        if remote.requests.next_deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        let (look, before) = (remote.requests.is_repick_due(now), remote.requests.is_stalled());
        let late = remote.requests.expire(now);
        let (key, stalled) = (remote.key, remote.requests.is_stalled());
        if !late.is_empty() || stalled != before {
            self.picker.expire(key, &late);
            if stalled {
                self.picker.mark_stalled(key);
            }
            for block in late {
                self.cancel(at, block);
            }
            self.feed();
            self.refill(at);
        } else if look {
            self.refill(at);
        }
    }

    /// Runs until every piece is verified, and returns how long that took. Panics if it takes longer than `most`.
    fn finish(&mut self, tick: Duration, most: Duration) -> Duration {
        let start = self.now;
        while !self.picker.is_complete() {
            assert!(
                self.now.saturating_sub(start) < most,
                "{} of {} bytes are left",
                self.picker.bytes.missing_wanted,
                self.picker.geometry.total
            );
            self.step(tick);
        }
        self.picker.check_invariants();
        self.now.saturating_sub(start)
    }
}

#[test]
fn stallers_of_any_kind_and_number_hold_an_idle_peer_up_for_no_more_than_a_round_trip() {
    for behaviour in [PeerBehaviour::Stalls(0.0), PeerBehaviour::Stalls(1.0), PeerBehaviour::StallsAfter(0)] {
        for count in [1, 2, 3, 4, 50] {
            let mut download = Download::new(256 * 1024, 4 << 20);
            download.join(count, behaviour, MS * 20, MIB);
            download.join(1, PeerBehaviour::Answers, MS * 20, MIB);
            download.unchoked();
            let took = download.finish(MS * 5, SECOND * 60);
            // The honest peer needs four seconds for all of it.
            assert!(took < SECOND * 5, "{took:?} with {count} stallers");
            assert_eq!(download.wasted, 0);
        }
    }
}

#[test]
fn peers_that_answered_before_they_stalled_hold_the_end_until_that_shows() {
    for count in [1, 3, 10] {
        let mut download = Download::new(256 * 1024, 8 << 20);
        download.join(count, PeerBehaviour::StallsAfter(6), MS * 20, MIB);
        download.join(1, PeerBehaviour::Answers, MS * 20, MIB);
        download.unchoked();
        let took = download.finish(MS * 5, SECOND * 60);
        assert!(took < SECOND * 10, "{took:?} with {count} stallers");
        assert!(download.wasted <= 4, "{} wasted", download.wasted);
    }
}

#[test]
fn a_peer_that_comes_last_gets_the_blocks_that_fifty_stallers_hold() {
    let mut download = Download::new(256 * 1024, 1 << 20);
    download.join(50, PeerBehaviour::Stalls(0.0), MS * 20, MIB);
    download.unchoked();
    for _ in 0..2000 {
        download.step(MS * 20);
    }
    download.join(1, PeerBehaviour::Answers, MS * 20, MIB);
    download.refill(50);
    let took = download.finish(MS * 5, SECOND * 30);
    assert!(took < SECOND * 2, "{took:?}");
}

#[test]
fn large_pieces_from_slow_peers_become_whole_one_after_the_other() {
    let mut download = Download::new(8 << 20, 64 << 20);
    download.join(20, PeerBehaviour::Answers, MS * 50, 50.0 * KIB);
    download.unchoked();
    let began = download.now;
    download.finish(MS * 20, SECOND * 120);
    let (first, piece) = (download.first_whole.expect("it is whole"), 512);
    let took = download.first_at.saturating_sub(began);
    assert!(first * 10 <= piece * 11, "the first piece was whole after {first} blocks, {took:?}");
    // Until the first piece is complete, the peers send nothing but its blocks.
    let ideal = 8.0 * MIB / (20.0 * 50.0 * KIB);
    assert!(took.as_secs_f64() <= ideal * 1.1, "the first piece was whole after {took:?}, not {ideal} s");
    assert!(download.most_begun <= 4, "{} pieces at a time", download.most_begun);
    assert!(download.wasted * 100 <= 8 * piece, "{} blocks came twice", download.wasted);
}

#[test]
fn a_peer_of_a_kibibyte_a_second_is_asked_for_each_block_once() {
    let mut download = Download::new(64 * 1024, 256 * 1024);
    download.join(1, PeerBehaviour::Answers, MS * 100, KIB);
    download.unchoked();
    download.finish(MS * 100, SECOND * 300);
    let remote = &download.remotes[0];
    // It got back later what it was asked for at first; nothing was sent twice.
    assert_eq!((download.wasted, remote.sent), (0, 16));
}

/// 75 seconds. The peers send each block as a whole when it is due, and no part of it before.
#[test]
fn two_peers_of_a_kibibyte_a_second_are_asked_for_little_and_for_no_block_twice() {
    let mut download = Download::new(256 * 1024, 4 << 20);
    download.join(2, PeerBehaviour::AnswersInBlocks, MS * 100, KIB);
    download.unchoked();
    let mut asked: Vec<BlockInfo> = Vec::new();
    while download.now < SECOND * 76 {
        for remote in &mut download.remotes {
            asked.append(&mut remote.news);
        }
        download.step(MS * 50);
    }
    let (all, sent) = (asked.len(), download.arrived);
    assert_eq!((sent, download.wasted), (8, 0), "each sends without a pause, and what it sends is of use");
    assert!(all <= 26, "{all} requests");
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), all, "no block was asked for twice");
}

#[test]
fn a_very_slow_peer_keeps_little_from_others() {
    let mut download = Download::new(256 * 1024, 16 << 20);
    download.join(1, PeerBehaviour::Answers, MS * 100, KIB);
    download.join(1, PeerBehaviour::Answers, MS * 20, MIB);
    download.unchoked();
    let took = download.finish(MS * 10, SECOND * 60);
    assert!(took < SECOND * 18, "{took:?}");
    assert!(download.wasted <= 2, "{}", download.wasted);
}

#[test]
fn on_fast_links_next_to_nothing_comes_twice() {
    for (peers, rtt, rate) in
        [(20, MS, 50.0 * MIB), (50, MS * 10, 2.0 * MIB), (10, MS * 100, 20.0 * MIB), (2, MS, 400.0 * MIB)]
    {
        let mut download = Download::new(256 * 1024, 256 << 20);
        download.join(peers, PeerBehaviour::Answers, rtt, rate);
        // No two peers are equally fast.
        for (at, remote) in download.remotes.iter_mut().enumerate() {
            remote.per_block = remote.per_block.mul_f64(1.0 + 0.02 * at as f64);
        }
        download.unchoked();
        download.finish(MS / 2, SECOND * 60);
        let blocks = (256 << 20) / BLOCK_SIZE as usize;
        assert!(
            download.wasted * 100 <= blocks,
            "{} of {blocks} blocks came twice from {peers} peers",
            download.wasted
        );
    }
}
