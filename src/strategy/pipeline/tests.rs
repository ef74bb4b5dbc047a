//! Peers on simulated links, with a simulated clock.

mod limited;
mod path;
mod refused;
mod timeouts;

use super::*;
use crate::types::PieceIndex;

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MIB: f64 = 1024.0 * 1024.0;

/// A peer that answers in order, over a path with a rate and a round trip time.
pub(crate) struct Link {
    pub(crate) requests: RequestPipeline,
    pub(crate) rtt: Duration,
    per_block: Duration,
    /// Its answers, with their arrival times.
    pub(crate) coming: VecDeque<(Duration, BlockInfo)>,
    /// When the link is free again.
    free: Duration,
    pub(crate) now: Duration,
    pub(crate) asked: u32,
    /// Requests that the peer never answers.
    drops: Vec<u32>,
    got: Vec<Duration>,
}

impl Link {
    pub(crate) fn new(requests: RequestPipeline, rtt: Duration, bytes_per_second: f64) -> Link {
        let per_block = Duration::from_secs_f64(f64::from(BLOCK_SIZE) / bytes_per_second);
        let (coming, drops, got) = (VecDeque::new(), Vec::new(), Vec::new());
        let mut link =
            Link { requests, rtt, per_block, coming, free: Duration::ZERO, now: SECOND, asked: 0, drops, got };
        link.refill();
        link
    }

    fn refill(&mut self) {
        for _ in 0..self.requests.want() {
            let block = block(self.asked);
            self.requests.add(self.now, &[block]);
            if !self.drops.contains(&self.asked) {
                // The block follows earlier ones on the link; half the round trip there, half back.
                self.free = self.free.max(self.now + self.rtt / 2) + self.per_block;
                self.coming.push_back((self.free + self.rtt / 2, block));
            }
            self.asked += 1;
        }
    }

    /// Delivers the next block. Returns false if none is in flight.
    pub(crate) fn step(&mut self) -> bool {
        let Some((at, block)) = self.coming.pop_front() else { return false };
        self.now = at;
        self.requests.take(at, &block);
        self.requests.received(at, 1, u64::from(BLOCK_SIZE));
        self.got.push(at);
        self.refill();
        true
    }

    pub(crate) fn run_until(&mut self, end: Duration) {
        while self.coming.front().is_some_and(|c| c.0 <= end) && self.step() {}
        self.now = self.now.max(end);
    }

    pub(crate) fn bytes_between(&self, from: Duration, to: Duration) -> f64 {
        self.got.iter().filter(|at| (from..to).contains(*at)).count() as f64 * f64::from(BLOCK_SIZE)
    }
}

pub(crate) fn block(number: u32) -> BlockInfo {
    BlockInfo { piece: PieceIndex(number / 64), begin: number % 64 * BLOCK_SIZE, length: BLOCK_SIZE }
}

pub(crate) fn blocks(numbers: std::ops::Range<u32>) -> Vec<BlockInfo> {
    numbers.map(block).collect()
}

pub(crate) fn stated(reqq: u32) -> RequestPipeline {
    let mut requests = RequestPipeline::new(DEFAULT_REQQ);
    requests.set_limit(reqq);
    requests
}

#[test]
fn a_long_fat_link_is_filled_within_ten_round_trips() {
    // 250 MiB/s × 100 ms = 1,600 blocks.
    for (mut requests, generous) in [(stated(2000), true), (stated(2000), false)] {
        if !generous {
            requests.start = INITIAL_MAX;
        }
        let mut link = Link::new(requests, MS * 100, 250.0 * MIB);
        link.run_until(SECOND * 4);
        let second = link.bytes_between(SECOND * 2, SECOND * 3);
        assert!(second >= 0.9 * 250.0 * MIB, "{} MiB/s in the second after ten round trips", second / MIB);
        assert!(link.requests.len() <= 2000);
    }
}

#[test]
fn a_short_path_stays_shallow_and_full() {
    for requests in [stated(2000), stated(500), RequestPipeline::new(DEFAULT_REQQ)] {
        let mut link = Link::new(requests, MS / 5, 1024.0 * MIB);
        let mut deepest = 0;
        while link.now < SECOND * 2 && link.step() {
            deepest = deepest.max(link.requests.len());
        }
        assert!(deepest <= 256, "{deepest} outstanding on a short path");
        assert!(link.bytes_between(SECOND + MS * 500, SECOND * 2) >= 0.95 * 512.0 * MIB);
    }
}

#[test]
fn a_slow_peer_hoards_nothing() {
    let mut link = Link::new(RequestPipeline::new(DEFAULT_REQQ), MS * 50, 10.0 * 1024.0);
    let mut taken_back = 0;
    let mut most_later = 0;
    assert_eq!(link.asked as usize, INITIAL_DEPTH);
    while link.now < SECOND * 60 {
        assert!(link.step(), "it keeps having work");
        if link.requests.next_deadline().is_some_and(|at| at <= link.now) {
            let lost = link.requests.expire(link.now);
            assert!(!link.requests.is_stalled());
            link.coming.retain(|(_, b)| !lost.contains(b));
            taken_back += lost.len();
            link.free = link.coming.back().map_or(link.now, |c| c.0.saturating_sub(link.rtt / 2));
            link.refill();
        }
        if link.now > SECOND * 12 {
            most_later = most_later.max(link.requests.len());
        }
    }
    assert!(taken_back < INITIAL_DEPTH, "it never had more than it can take: {taken_back}");
    assert!((1..=4).contains(&most_later), "{most_later} outstanding at 10 KiB/s");
    let rate = link.requests.rate(link.now);
    assert!((9_000..=11_500).contains(&rate), "{rate} bytes/s");
    assert!(!link.requests.is_fast(256 * 1024) && link.requests.is_fast(64 * 1024));
}

#[test]
fn a_link_that_grows_longer_or_faster_is_followed() {
    let mut link = Link::new(stated(2000), MS * 20, 20.0 * MIB);
    link.run_until(SECOND * 4);
    link.per_block = Duration::from_secs_f64(f64::from(BLOCK_SIZE) / (100.0 * MIB));
    link.run_until(SECOND * 8);
    let rate = link.bytes_between(SECOND * 7, SECOND * 8);
    assert!(rate >= 90.0 * MIB, "{} MiB/s", rate / MIB);
    assert!(link.requests.len() <= 100 * 64, "{}: a second's worth", link.requests.len());
}

#[test]
fn the_limit_is_kept_and_requests_leave_in_batches() {
    let mut requests = stated(10);
    assert_eq!(requests.want(), INITIAL_DEPTH);
    requests.depth = 12;
    assert_eq!(requests.want(), 10);
    requests.add(SECOND, &blocks(0..10));
    let mut wants = Vec::new();
    for number in 0..4 {
        let now = SECOND + MS * (number + 1);
        assert!(requests.take(now, &block(number)).is_some());
        requests.received(now, 1, u64::from(BLOCK_SIZE));
        wants.push(requests.want());
    }
    assert_eq!(wants, [0, 0, 3, 4]);
    requests.set_limit(0);
    assert_eq!(requests.depth(), 1, "a peer that states 0 is asked for one");
}

#[test]
fn an_unstated_limit_grows_only_while_nothing_is_lost() {
    let mut link = Link::new(RequestPipeline::new(DEFAULT_REQQ), MS * 100, 250.0 * MIB);
    link.run_until(SECOND * 6);
    assert!(link.requests.limit > 1000, "{}", link.requests.limit);
    let mut link = Link::new(RequestPipeline::new(DEFAULT_REQQ), MS * 100, 250.0 * MIB);
    link.drops = vec![700];
    while link.step() {
        if !link.requests.expire(link.now).is_empty() || link.now > SECOND * 6 {
            break;
        }
    }
    let limit = link.requests.limit;
    assert!(limit < DEFAULT_REQQ as usize * 2 && link.requests.is_limit_fixed);
    link.run_until(link.now + SECOND * 6);
    assert_eq!(link.requests.limit, limit, "it does not grow again");
}

#[test]
fn answers_out_of_order_and_cancels_find_their_request() {
    let mut requests = stated(500);
    requests.add(SECOND, &blocks(0..5));
    assert_eq!(requests.take(SECOND + MS * 30, &block(3)), Some(MS * 30));
    assert_eq!(requests.take(SECOND + MS * 30, &block(3)), None);
    assert!(requests.remove(&block(1)) && !requests.remove(&block(1)));
    assert_eq!(requests.take(SECOND * 2, &BlockInfo { length: 5, ..block(0) }), None, "another length");
    assert_eq!((requests.len(), requests.remove_all()), (3, vec![block(0), block(2), block(4)]));
    assert!(requests.is_empty() && requests.next_deadline().is_none() && requests.expire(SECOND * 999).is_empty());
}

#[test]
fn the_first_blocks_say_how_many_more_to_ask_for() {
    // Round trip time and time between blocks in milliseconds, and the depth once the first eight have arrived.
    for (rtt, between, depth) in
        [(100, 0, INITIAL_MAX_LARGE_REQQ), (100, 1, INITIAL_MAX_LARGE_REQQ), (100, 20, 150), (300, 300, 10)]
    {
        let mut requests = stated(2000);
        requests.add(SECOND, &blocks(0..8));
        for number in 0..8 {
            let now = SECOND + MS * (rtt + number * between);
            requests.take(now, &block(number));
            requests.received(now, 1, u64::from(BLOCK_SIZE));
        }
        let deep = requests.depth();
        assert!((depth..=depth + 9).contains(&deep), "{deep} for a block each {between} ms");
    }
}

#[test]
fn near_the_end_a_peer_gets_half_its_fair_part_but_never_runs_dry() {
    let end_game_limit = EndGameLimit { outstanding: 10, least: 4, is_proven: true };
    assert_eq!(end_game_limit.limit(64, 4_000_000, 0.25), 64, "far from the end nothing is held back");
    assert_eq!(end_game_limit.limit(64, 160, 0.25), 10, "half of 40, of which 10 are outstanding");
    assert_eq!(end_game_limit.limit(64, 80, 0.25), 0);
    assert_eq!(EndGameLimit { outstanding: 0, ..end_game_limit }.limit(64, 1, 0.1), 4);
}

#[test]
fn a_peer_that_sends_all_that_comes_is_asked_for_all_that_is_left() {
    let end_game_limit = EndGameLimit { outstanding: 10, least: 4, is_proven: true };
    assert_eq!(end_game_limit.limit(64, 20, 1.0), 64);
    assert_eq!(
        EndGameLimit { is_proven: false, ..end_game_limit }.limit(64, 20, 1.0),
        0,
        "others may be about to send as much"
    );
}

#[test]
fn a_path_that_our_own_data_makes_long_is_asked_for_a_second_s_worth() {
    let mut requests = stated(2000);
    requests.rounds.rate = Some(4.0 * MIB);
    requests.timing.min_age = Some(MS);
    assert_eq!(requests.steady_depth(), 64);
    requests.set_tcp_rtt(MS * 150);
    assert_eq!(requests.steady_depth(), 256);
}

#[test]
fn among_many_peers_each_is_asked_for_little_at_first() {
    const SMALL: u32 = 256 * 1024;
    for (peers, piece, most) in [
        (1, SMALL, INITIAL_MAX_LARGE_REQQ),
        (10, SMALL, 103),
        (1000, SMALL, INITIAL_MIN_SHARE),
        (1, 8 << 20, INITIAL_MAX_LARGE_REQQ),
        (10, 8 << 20, 52),
        (10, 64 << 20, 103),
        (1000, 8 << 20, INITIAL_MIN_SHARE),
    ] {
        let mut requests = RequestPipeline::new(DEFAULT_REQQ);
        requests.limit_start_by_peers(peers, piece);
        requests.set_limit(2000);
        requests.add(SECOND, &blocks(0..requests.want() as u32));
        let rtt = SHORT_PATH * 10;
        requests.measure(SECOND + rtt, rtt, true);
        let first = requests.first_depth(SECOND + rtt, SECOND, INITIAL_DEPTH);
        assert_eq!(first, most, "one of {peers}, pieces of {piece}");
    }
    let mut late = stated(2000);
    late.add(SECOND, &blocks(0..1));
    late.limit_start_by_peers(1000, SMALL);
    assert_eq!(late.start, INITIAL_MAX_LARGE_REQQ, "once requests are out it is too late");
}

/// Fifty equal peers of 1 MiB/s share the remaining blocks as the picker allows: the last one ends soon after the first.
#[test]
fn equal_peers_end_together() {
    let mut left = 4000u32;
    let mut links: Vec<Link> = (0..50)
        .map(|_| {
            let mut requests = RequestPipeline::new(DEFAULT_REQQ);
            requests.limit_start_by_peers(50, 256 * 1024);
            Link::new(requests, MS, MIB)
        })
        .collect();
    left -= links.iter().map(|link| link.asked).sum::<u32>();
    let mut ends = Vec::new();
    while let Some(link) = links.iter_mut().filter(|l| !l.coming.is_empty()).min_by_key(|l| l.coming[0].0) {
        let (at, arrived) = link.coming.pop_front().expect("it was looked for");
        link.now = at;
        link.requests.take(at, &arrived);
        link.requests.received(at, 1, u64::from(BLOCK_SIZE));
        let missing = u64::from(left) + link.coming.len() as u64 * 50; // all are alike
        let want = link.requests.end_game_limit().limit(link.requests.want(), missing, 1.0 / 50.0);
        for _ in 0..want.min(left as usize) {
            left -= 1;
            let block = block(link.asked);
            link.asked += 1;
            link.requests.add(at, &[block]);
            link.free = link.free.max(at + link.rtt / 2) + link.per_block;
            link.coming.push_back((link.free + link.rtt / 2, block));
        }
        if link.coming.is_empty() {
            ends.push(at);
        }
    }
    let (first, last) = (ends[0], ends[ends.len() - 1]);
    assert_eq!((left, ends.len()), (0, 50));
    let idle = last.saturating_sub(first);
    assert!(idle < MS * 80, "the first was idle for {idle:?}");
}
