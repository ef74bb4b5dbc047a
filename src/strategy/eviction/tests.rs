//! Full connection tables, and which connection is evicted.

use super::*;

const NOW: Duration = Duration::from_secs(1000);

fn at(key: u32, ip: &str, idle: u64) -> EvictionCandidate {
    let ip = ip.parse().expect("an address");
    EvictionCandidate {
        key: PeerKey(key),
        ip,
        handshake: HandshakeProgress::Done,
        since: NOW.saturating_sub(Duration::from_secs(idle.max(100))),
        last_block: NOW.saturating_sub(Duration::from_secs(idle)),
        usefulness: Usefulness::Transferred,
        total: PLENTY_BYTES,
        recent: 2 * BUSY,
    }
}

fn evicted(newcomer: &str, candidates: &[EvictionCandidate], fair: usize) -> Option<u32> {
    let newcomer = newcomer.parse().expect("an address");
    choose_eviction(newcomer, candidates, fair, &EvictionLimiter::default(), NOW).map(|gone| gone.key.0)
}

/// The same connections, none of which has transferred a block.
fn unproven(mut candidates: Vec<EvictionCandidate>) -> Vec<EvictionCandidate> {
    for candidate in &mut candidates {
        candidate.usefulness = Usefulness::Unknown;
    }
    candidates
}

/// A table of `size` connections with addresses made by `host`, all idle for `idle` seconds.
fn table(size: u32, idle: u64, host: impl Fn(u32) -> String) -> Vec<EvictionCandidate> {
    (0..size).map(|n| at(n, &host(n), idle)).collect()
}

/// Sets the handshake state and the idle time of all these connections.
fn all(candidates: &mut [EvictionCandidate], handshake: HandshakeProgress, idle: Duration) {
    for candidate in candidates {
        (candidate.handshake, candidate.last_block) = (handshake, NOW.saturating_sub(idle));
    }
}

#[test]
fn idle_connections_of_few_addresses_keep_nobody_out() {
    // Three addresses share the table, none with more than its fair share.
    let full = table(225, 11, |n| format!("203.0.{}.1", n % 3));
    assert!(evicted("198.51.100.1", &full, 75).is_some());
    // Thirteen addresses, in one network or in many.
    for third in [0, 1] {
        let full = table(225, 11, |n| format!("203.0.{}.{}", n % 13 * third, n % 13));
        assert!(evicted("198.51.100.1", &full, 75).is_some());
    }
}

#[test]
fn idle_connections_of_one_ipv6_network_keep_nobody_out() {
    let networks: [fn(u32) -> String; 3] = [
        |n| format!("2001:db8:7::{n:x}"),
        |n| format!("2001:db8:7:{n:x}::1"),
        |n| format!("2001:db8:7:{:x}::1", n << 8),
    ];
    for host in networks {
        // At once, because one /48 has more than its share.
        assert!(evicted("2001:db8:8::1", &table(225, 0, host), 75).is_some());
        assert!(evicted("198.51.100.1", &table(225, 0, host), 75).is_some());
    }
}

/// In the fullest part of the fullest network, the connection that has been idle for longest is evicted.
#[test]
fn the_fullest_network_gives_up_the_longest_idle() {
    let mut full = vec![
        at(1, "2001:db8:7:101::1", 500),
        at(2, "2001:db8:7:201::1", 20),
        at(3, "2001:db8:7:202::1", 90),
        at(4, "2001:db8:7:202::2", 30),
        at(5, "2001:db8:7:202::3", 40),
        at(6, "192.0.2.1", 900),
        at(7, "192.0.2.2", 800),
        at(8, "192.0.2.2", 700),
    ];
    assert_eq!(evicted("198.51.100.1", &full, 9), Some(3));
    full.retain(|o| o.ip.is_ipv4());
    assert_eq!(evicted("198.51.100.1", &full, 9), Some(7), "the address with the most, then the longest idle");
    assert_eq!(evicted("192.0.2.3", &full, 9), Some(7), "also for one of the same /24, that has fewer");
}

#[test]
fn peers_that_exchange_blocks_stay() {
    let busy = table(8, 3, |n| format!("203.0.113.{}", n % 2));
    assert_eq!(evicted("198.51.100.1", &busy, 8), None);
    assert!(evicted("198.51.100.1", &busy, 7).is_some(), "unless their network has more than its part");
}

#[test]
fn nobody_is_pushed_out_by_its_own_network() {
    let full = table(8, 30, |_| "203.0.113.1".into());
    assert_eq!(evicted("203.0.113.1", &full, 2), None);
    let mixed = [table(4, 30, |_| "203.0.113.1".into()), table(4, 70, |n| format!("192.0.{n}.1"))].concat();
    assert_eq!(evicted("203.0.113.1", &mixed, 2), None, "nor by one that has more than its part");
    let full = table(8, 61, |_| "203.0.113.1".into());
    assert!(evicted("203.0.113.1", &full, 8).is_some(), "a peer without traffic for a minute is evicted");
    let rotating = [table(17, 5, |_| "203.0.113.1".into()), table(17, 5, |_| "198.51.100.1".into())].concat();
    let full = [rotating, vec![at(99, "192.0.2.1", 900)]].concat();
    assert_eq!(evicted("203.0.113.1", &full, 20), None, "though the other has done nothing for longest");
    assert_eq!(evicted("203.0.113.1", &[], 0), None);
}

/// Like `evicted`, while btsync may not evict a connection in use.
fn evicted_without_in_use(candidates: &[EvictionCandidate]) -> Option<u32> {
    let ip = [1, 1, 1, 1].into();
    let in_use = LimitedEviction { network: Network::subnet(ip), newcomer: provider_network(ip), is_in_use: true };
    let mut eviction_limiter = EvictionLimiter::default();
    eviction_limiter.note(in_use, NOW);
    choose_eviction([198, 51, 100, 1].into(), candidates, 75, &eviction_limiter, NOW).map(|gone| gone.key.0)
}

#[test]
fn where_all_networks_are_alike_a_minute_without_a_block_is_enough() {
    let mut full = table(225, 59, |n| format!("203.{n}.1.1"));
    assert_eq!(evicted_without_in_use(&full), None);
    full[7].last_block -= Duration::from_secs(1);
    assert_eq!(evicted_without_in_use(&full), Some(7));
}

#[test]
fn a_block_buys_ten_seconds_and_a_mebibyte_a_minute() {
    let mut full = table(225, 9, |n| format!("203.{n}.1.1"));
    for candidate in &mut full {
        candidate.total = 16 << 10;
    }
    assert_eq!(evicted_without_in_use(&full), None);
    full[7].last_block -= Duration::from_secs(2);
    assert_eq!(evicted_without_in_use(&full), Some(7));
    full[7].total = PLENTY_BYTES;
    assert_eq!(evicted_without_in_use(&full), None);
    full[8].usefulness = Usefulness::Stuck;
    assert_eq!(evicted_without_in_use(&full), Some(8), "it does not read");
}

/// Every connection has transferred blocks and may stay by its idle time. The one with the least traffic is evicted, and only
/// that one.
#[test]
fn a_table_full_of_connections_in_use_gives_up_one_every_few_seconds() {
    let mut full = table(225, 6, |n| format!("203.{n}.1.1"));
    full[7].recent -= 1;
    assert_eq!(evicted("198.51.100.1", &full, 75), Some(7));
    assert_eq!(evicted_without_in_use(&full), None);
    assert_eq!(evicted("203.3.1.1", &full, 75), None, "to a network that has fewer");
    for candidate in &mut full {
        candidate.since = NOW.saturating_sub(MIN_AGE_IN_USE / 2);
    }
    assert_eq!(evicted("198.51.100.1", &full, 75), None, "nor so soon");
    let busy = table(225, 3, |n| format!("203.{n}.1.1"));
    assert_eq!(evicted("198.51.100.1", &busy, 75), None, "nor one that is busy");
}

/// A hundred peers take blocks all the time. 125 connections took one block and then request single bytes now and then, as an
/// attacker with addresses of many networks would. For ten minutes every honest newcomer gets a place, and no busy peer is
/// evicted.
#[test]
fn connections_that_ask_for_a_byte_now_and_then_keep_nobody_out() {
    let mut full = table(225, 0, |n| format!("203.{n}.1.1"));
    full[100..].iter_mut().for_each(|o| (o.total, o.recent) = (16 << 10, 16 << 10));
    let (mut eviction_limiter, mut let_in) = (EvictionLimiter::default(), 0);
    for second in 1..600u32 {
        let now = NOW + Duration::from_secs(u64::from(second));
        full.iter_mut().filter(|o| o.recent >= BUSY).for_each(|o| o.last_block = now);
        if second < 30 || second % 3 > 0 {
            continue;
        }
        let newcomer = IpAddr::from([100, second as u8, (second >> 8) as u8, 1]);
        let Some(gone) = choose_eviction(newcomer, &full, 75, &eviction_limiter, now) else { continue };
        gone.limited.into_iter().for_each(|gone| eviction_limiter.note(gone, now));
        let place = full.iter_mut().find(|o| o.key == gone.key).expect("a connection");
        assert!(gone.key.0 >= 100, "a busy peer");
        let (key, ip, since) = (PeerKey(1000 + second), newcomer, now);
        *place = EvictionCandidate { key, ip, since, last_block: now, total: 16 << 10, recent: 16 << 10, ..*place };
        let_in += 1;
    }
    assert_eq!(let_in, 190);
}

#[test]
fn idle_connections_of_many_networks_keep_nobody_out() {
    let mut full = unproven(table(225, 5, |n| format!("203.{n}.1.1")));
    assert_eq!(evicted("198.51.100.1", &full, 75), None, "they get a moment to request something");
    for candidate in &mut full {
        candidate.last_block -= Duration::from_secs(1);
    }
    assert!(evicted("198.51.100.1", &full, 75).is_some());
    full[9].last_block -= Duration::from_secs(1);
    assert_eq!(evicted("198.51.100.1", &full, 75), Some(9), "the one that has been idle for longest");
    full[7].usefulness = Usefulness::LeftSlotIdle;
    assert_eq!(evicted("198.51.100.1", &full, 75), Some(7), "or had a slot and requested nothing");
    full[5].usefulness = Usefulness::Stuck;
    assert_eq!(evicted("198.51.100.1", &full, 75), Some(5), "or does not read");
    for candidate in &mut full {
        candidate.usefulness = Usefulness::Transferred;
    }
    assert_eq!(evicted_without_in_use(&full), None, "peers that have moved blocks stay");
    let six: Vec<_> = unproven(table(225, 6, |n| format!("2001:db8:{n:x}::1")));
    assert!(evicted("2001:db8:ffff::1", &six, 75).is_some());
}

/// Two busy connections of one network do not protect the idle connections of the other networks.
#[test]
fn a_network_with_two_busy_connections_covers_for_nobody() {
    let mut full = unproven(table(225, 30, |n| format!("203.{n}.1.1")));
    for (n, candidate) in full.iter_mut().take(2).enumerate() {
        *candidate = at(n as u32, "192.0.2.1", 0);
    }
    assert!(evicted("198.51.100.1", &full, 75).is_some_and(|key| key > 1));
}

/// A flood of newcomers, each from a new network, sixty per second for two minutes. It evicts few connections, and none that has
/// transferred a block.
#[test]
fn a_flood_of_newcomers_evicts_few_and_none_that_has_moved_a_block() {
    let mut full = unproven(table(225, 30, |n| format!("203.{n}.1.1")));
    full[..100]
        .iter_mut()
        .for_each(|o| (o.usefulness, o.last_block) = (Usefulness::Transferred, NOW + Duration::from_secs(100)));
    let (mut eviction_limiter, mut evictions) = (EvictionLimiter::default(), 0);
    for n in 0..120 * 60u32 {
        let now = NOW + Duration::from_millis(u64::from(n) * 1000 / 60);
        let newcomer = IpAddr::from([1 + (n >> 8) as u8, n as u8, 0, 1]);
        let Some(gone) = choose_eviction(newcomer, &full, 75, &eviction_limiter, now) else { continue };
        eviction_limiter.note(gone.limited.expect("only such are evicted"), now);
        let place = full.iter_mut().find(|o| o.key == gone.key).expect("a connection");
        assert_eq!(place.usefulness, Usefulness::Unknown);
        (place.key, place.ip, place.last_block) = (PeerKey(1000 + n), newcomer, now);
        evictions += 1;
    }
    assert!((400..=500).contains(&evictions), "{evictions}");
}

/// Three hundred newcomers per second from new /24s, but only four /16s, do not use up all evictions: another newcomer gets a
/// place at once.
#[test]
fn a_flood_from_a_few_wide_networks_leaves_evictions_to_others() {
    let full = unproven(table(225, 30, |n| format!("203.{n}.1.1")));
    let mut eviction_limiter = EvictionLimiter::default();
    for n in 0..5 * 300u32 {
        let now = NOW + Duration::from_millis(u64::from(n) * 1000 / 300);
        let newcomer = IpAddr::from([100, (n % 4) as u8, (n / 4) as u8, 1]);
        if let Some(gone) = choose_eviction(newcomer, &full, 75, &eviction_limiter, now) {
            eviction_limiter.note(gone.limited.expect("only such are evicted"), now);
        }
        assert!(choose_eviction([198, 51, 100, 1].into(), &full, 75, &eviction_limiter, now).is_some());
    }
}

#[test]
fn a_network_whose_idle_connection_was_evicted_evicts_nobody_for_a_minute() {
    let full = unproven(table(225, 30, |n| format!("203.{n}.1.1")));
    let (mut eviction_limiter, newcomer) = (EvictionLimiter::default(), |n: u8| IpAddr::from([198, 51, n, 1]));
    let gone = choose_eviction(newcomer(1), &full, 75, &eviction_limiter, NOW).expect("a connection");
    eviction_limiter.note(
        LimitedEviction {
            network: Network::subnet(newcomer(2)),
            newcomer: provider_network([1, 1, 1, 1].into()),
            is_in_use: false,
        },
        NOW,
    );
    assert!(choose_eviction(newcomer(2), &full, 75, &eviction_limiter, NOW).is_none());
    assert_eq!(choose_eviction(newcomer(3), &full, 75, &eviction_limiter, NOW), Some(gone));
    assert!(choose_eviction(newcomer(2), &full, 75, &eviction_limiter, NOW + EvictionLimiter::REST).is_some());
}

/// Silent connections are evicted before one that has started its handshake, whatever their networks.
#[test]
fn silent_connections_are_evicted_first() {
    let mut full = table(128, 0, |n| format!("203.{n}.1.1"));
    all(&mut full, HandshakeProgress::Silent, SILENT_TIMEOUT);
    all(&mut full[3..4], HandshakeProgress::Begun, HANDSHAKE_TIMEOUT * 2);
    all(&mut full[90..91], HandshakeProgress::Silent, SILENT_TIMEOUT * 2);
    assert_eq!(evicted("203.3.1.1", &full, 32), Some(90));
    all(&mut full, HandshakeProgress::Silent, Duration::ZERO);
    assert_eq!(evicted("203.3.1.1", &full, 32), None, "their first bytes may be on their way");
    all(&mut full, HandshakeProgress::Begun, HANDSHAKE_TIMEOUT);
    assert!(evicted("198.51.100.1", &full, 32).is_some(), "nor is one byte enough");
    let mut full = table(128, 0, |_| "203.0.113.1".into());
    all(&mut full, HandshakeProgress::Silent, Duration::ZERO);
    all(&mut full[3..4], HandshakeProgress::Begun, Duration::ZERO);
    assert!(evicted("203.3.1.1", &full, 32).is_some_and(|key| key != 3), "one network has too many");
}

/// Networks that stay within their share each, and begin a handshake again before the last one has timed out.
#[test]
fn handshakes_that_few_networks_keep_renewing_keep_nobody_out() {
    let network = |n: u32| format!("203.0.{}.1", n % 5);
    let mut full = table(128, 0, network);
    all(&mut full, HandshakeProgress::Begun, Duration::ZERO);
    assert_eq!(evicted("198.51.100.1", &full, 32), None, "a handshake takes a moment");
    for (n, candidate) in (0..).zip(&mut full) {
        candidate.last_block = NOW.saturating_sub(Duration::from_millis(190 + n));
    }
    let fullest = [125, 126, 127]; // of the three networks that have 26
    assert!(fullest.contains(&evicted("198.51.100.1", &full, 32).expect("one makes room")));
    assert_eq!(evicted(&network(4), &full, 32), None, "the networks do not displace each other");
    // Half as many as the fullest network has.
    let theirs = |count: u32| (500..500 + count).map(|key| at(key, "198.51.100.1", 0));
    let with = |count| full.iter().copied().chain(theirs(count)).collect::<Vec<_>>();
    assert!(evicted("198.51.100.1", &with(12), 32).is_some());
    assert_eq!(evicted("198.51.100.1", &with(13), 32), None);
    // A network with many complete handshakes covers for nobody, and its connections stay.
    let many = (1000..1030).map(|key| at(key, "192.0.2.1", 0));
    let gone = evicted("198.51.100.1", &full.iter().copied().chain(many).collect::<Vec<_>>(), 75);
    assert!(fullest.contains(&gone.expect("one makes room")));
}
