//! Limits so low that only a change lets a connection go on. The clock is real, but no result depends on how long anything takes.

use super::*;

const A_BYTE: Limits = Limits { down: 1, up: 1 };
const KEY: PeerKey = PeerKey(1);

fn demand() -> Demand {
    Demand { flow: FlowId::new(KEY, [192, 0, 2, 1].into()), direction: Direction::Up, serves_choked_peer: false }
}

/// More than is granted within these tests at one byte a second.
const BLOCK: u64 = 16 * 1024;

fn collect(throttle: &TorrentThrottle, grants: &mut LevelGrants) -> Grant {
    grants.collect(throttle, demand(), BLOCK, BLOCK)
}

fn waits(throttle: &TorrentThrottle, grants: &mut LevelGrants) -> bool {
    matches!(collect(throttle, grants), Grant::Wait(_))
}

#[test]
fn a_torrent_needs_the_permission_of_each_level_that_has_a_limit() {
    let (throttle, group) = (TorrentThrottle::default(), Arc::new(LimitGroup::new(A_BYTE)));
    let client = throttle.client.clone();
    let mut grants = LevelGrants::default();
    assert_eq!(collect(&throttle, &mut grants), Grant::Go(u64::MAX));

    throttle.set(A_BYTE);
    assert!(waits(&throttle, &mut grants));
    throttle.set(Limits::default());
    assert_eq!(collect(&throttle, &mut grants), Grant::Go(u64::MAX));

    throttle.set_group(Some(group.clone()));
    assert!(waits(&throttle, &mut grants));
    group.set(Limits::default());
    assert_eq!(collect(&throttle, &mut grants), Grant::Go(u64::MAX));

    client.limit_group().set(A_BYTE);
    assert!(waits(&throttle, &mut grants));
    throttle.set_ignores_client(true);
    assert_eq!(collect(&throttle, &mut grants), Grant::Go(u64::MAX));
    throttle.set_ignores_client(false);
    assert!(waits(&throttle, &mut grants));

    group.set_ignores_client(true);
    assert_eq!(collect(&throttle, &mut grants), Grant::Go(u64::MAX));
    throttle.set_group(None);
    assert!(waits(&throttle, &mut grants), "its group is no longer there to ignore them");
}

#[test]
fn blocks_for_choked_peers_have_a_limit_of_their_own_even_if_there_is_no_other() {
    let throttle = TorrentThrottle::new(Arc::default());
    throttle.set_choked_share(1);
    let mut grants = LevelGrants::default();
    let choked = Demand { serves_choked_peer: true, ..demand() };
    assert!(matches!(grants.collect(&throttle, choked, BLOCK, BLOCK), Grant::Wait(_)));
    assert_eq!(collect(&throttle, &mut grants), Grant::Go(u64::MAX), "an unchoke ends the wait");
    assert_eq!((throttle.limit(Direction::Up), throttle.fair_share(Direction::Up)), (0, 0));
    assert_eq!(throttle.choked.known_peers(), 1);
    throttle.remove_peer(KEY);
    assert_eq!(throttle.choked.known_peers(), 0);
}

#[test]
fn a_grant_of_one_level_is_kept_while_the_writer_waits_for_another_level() {
    let throttle = TorrentThrottle::default();
    throttle.set(Limits { down: 0, up: 1 << 40 });
    throttle.client.limit_group().set(A_BYTE);
    let mut grants = LevelGrants::default();
    while grants.0[1] < BLOCK {
        assert!(waits(&throttle, &mut grants)); // until the torrent's own limiter has granted the block
    }
    let own = grants.0[1];
    assert!(waits(&throttle, &mut grants));
    assert_eq!(grants.0[1], own, "the first level is not asked again");
    throttle.client.limit_group().set(Limits::default());
    assert_eq!(collect(&throttle, &mut grants), Grant::Go(own));
    grants.spend(BLOCK);
    assert_eq!(grants.0, [0, own - BLOCK, 0, 0]);
    grants.give_back(&throttle, Direction::Up, KEY);
    assert_eq!(grants, LevelGrants::default());
}

#[test]
fn the_lowest_share_counts_and_a_group_counts_its_active_torrents() {
    let client = Arc::new(Throttle::new(Limits { down: 1000, up: 0 }));
    let group = Arc::new(LimitGroup::new(Limits { down: 600, up: 50 }));
    let torrents: Vec<_> = (0..3).map(|_| Arc::new(TorrentThrottle::new(client.clone()))).collect();
    for torrent in &torrents {
        torrent.set_group(Some(group.clone()));
    }
    let active: Vec<_> = torrents.iter().map(TorrentThrottle::activate).collect();
    assert_eq!((group.torrents(), torrents[0].fair_share(Direction::Down)), (3, 200));
    torrents[0].set(Limits { down: 150, up: 0 });
    assert_eq!(torrents[0].fair_share(Direction::Down), 150);
    assert_eq!([Direction::Down, Direction::Up].map(|direction| torrents[0].limit(direction)), [150, 50]);
    torrents[2].set_group(None);
    assert_eq!((group.torrents(), torrents[1].fair_share(Direction::Down)), (2, 300));
    assert_eq!(torrents[2].fair_share(Direction::Down), 1000);
    drop(active);
    assert_eq!(group.torrents(), 0);
    torrents[2].set_group(Some(group.clone()));
    assert_eq!(group.torrents(), 0, "it transfers nothing");
}

#[test]
fn a_connection_that_ends_is_forgotten_by_every_group_that_its_torrent_ever_had() {
    let throttle = TorrentThrottle::default();
    let groups: Vec<_> = (0..3).map(|_| Arc::new(LimitGroup::new(A_BYTE))).collect();
    let mut grants = LevelGrants::default();
    for group in groups.iter().chain(&groups) {
        throttle.set_group(Some(group.clone()));
        assert!(waits(&throttle, &mut grants));
    }
    throttle.set(A_BYTE);
    assert!(waits(&throttle, &mut LevelGrants::default()));
    assert!(groups.iter().all(|group| group.known_peers() == 1));
    assert!(throttle.membership.lock().former.len() <= groups.len());
    throttle.remove_peer(KEY);
    assert!(groups.iter().all(|group| group.known_peers() == 0));
    assert_eq!(throttle.own.known_peers(), 0);
}
