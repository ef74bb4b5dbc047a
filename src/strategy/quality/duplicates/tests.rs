use super::*;

const ROUND: Duration = Duration::from_secs(10);
const KIB: u64 = 1024;

fn id(client: &str, n: u8) -> PeerId {
    let mut id = [n; 20];
    id[..3].copy_from_slice(client.as_bytes());
    PeerId(id)
}

/// A connection that gives us `rate` bytes in each round in which it unchokes us.
fn giving(key: u32, id: PeerId, rate: u64, unchokes: bool) -> (DuplicateConnection, u64) {
    let connection = DuplicateConnection {
        key: PeerKey(key),
        id,
        is_from_user: false,
        is_interesting: true,
        is_unchoked: unchokes,
        received: 0,
        sent: 0,
    };
    (connection, rate)
}

/// Runs rounds until a connection ends, at most `rounds`. Returns the round and what ended.
fn run(
    trials: &mut DuplicateTrials,
    ours: PeerId,
    connections: &mut [(DuplicateConnection, u64)],
    rounds: u32,
) -> Option<(u32, Vec<(PeerKey, PeerKey)>)> {
    let start = trials.last_round;
    for round in 1..=rounds {
        for (connection, rate) in connections.iter_mut().filter(|(c, _)| c.is_unchoked) {
            if connection.is_interesting { connection.received += *rate } else { connection.sent += *rate }
        }
        let seen: Vec<_> = connections.iter().map(|(connection, _)| *connection).collect();
        let ended = trials.round(start + ROUND * round, ours, &seen);
        if !ended.is_empty() {
            return Some((round, ended));
        }
    }
    None
}

#[test]
fn a_connection_that_was_not_unchoked_yet_is_not_closed_for_a_copy_that_moves_blocks() {
    let (ours, honest) = (id("-BY", 9), id("-qB", 1));
    let mut trials = DuplicateTrials::default();
    let mut both = [giving(1, honest, 500 * KIB, false), giving(2, honest, 20 * KIB, true)];
    assert_eq!(run(&mut trials, ours, &mut both, 50), None, "a busy seed lets us wait for minutes");
    both[0].0.is_unchoked = true;
    let (round, ended) = run(&mut trials, ours, &mut both, 50).expect("the copy ends");
    assert_eq!(ended, [(PeerKey(2), PeerKey(1))]);
    assert!(round > 1, "the copy moved more before");
}

#[test]
fn a_trickle_pushes_out_no_connection() {
    let (ours, honest) = (id("-BY", 9), id("-LT", 1));
    // One block in each round is less than a copy has to move in a trial to be believed soon.
    let mut both = [giving(1, honest, 0, true), giving(2, honest, 16 * KIB, true)];
    assert_eq!(run(&mut DuplicateTrials::default(), ours, &mut both, 15), None);
    let mut both = [giving(1, honest, 100 * KIB, true), giving(2, honest, 150 * KIB, true)];
    assert_eq!(run(&mut DuplicateTrials::default(), ours, &mut both, 12), None, "no clear difference");
}

#[test]
fn of_connections_over_two_addresses_one_stays_in_the_long_run() {
    let (ours, peer) = (id("-BY", 9), id("-BY", 1));
    for (first, second, unchokes) in [(100, 1000, true), (100, 100, true), (0, 1000, false)] {
        let mut both = [giving(1, peer, first * KIB, unchokes), giving(2, peer, second * KIB, true)];
        let (round, ended) = run(&mut DuplicateTrials::default(), ours, &mut both, 100).expect("one ends");
        assert_eq!(ended.len(), 1);
        assert!(round >= 4, "both have their chance: {round}");
        // Connections that do not interest us are compared by what they take.
        let mut both = both.map(|(connection, rate)| {
            (DuplicateConnection { is_interesting: false, received: 0, sent: 0, ..connection }, rate)
        });
        assert_eq!(run(&mut DuplicateTrials::default(), ours, &mut both, 100), Some((round, ended)));
    }
}

#[test]
fn uploads_do_not_count_if_we_want_blocks_from_the_peer() {
    let (ours, honest) = (id("-BY", 9), id("-LT", 1));
    let (giver, rate) = giving(1, honest, 100 * KIB, true);
    let mut taker = giving(2, honest, 1000 * KIB, true);
    taker.0.is_interesting = false;
    let mut both = [(giver, rate), taker];
    let ended = run(&mut DuplicateTrials::default(), ours, &mut both, 100);
    assert_eq!(ended, None, "neither does what the other does");
}

#[test]
fn a_connection_that_the_user_named_stays() {
    let (ours, honest) = (id("-BY", 9), id("-LT", 1));
    let mut both = [giving(1, honest, 0, true), giving(2, honest, 1000 * KIB, true)];
    both[0].0.is_from_user = true;
    assert_eq!(run(&mut DuplicateTrials::default(), ours, &mut both, 100), None);
    both[1].0.is_from_user = true;
    let ended = run(&mut DuplicateTrials::default(), ours, &mut both, 9);
    assert_eq!(ended, Some((2, vec![(PeerKey(1), PeerKey(2))])), "two addresses that the user named are one peer");
    both[1].1 = 0;
    assert_eq!(run(&mut DuplicateTrials::default(), ours, &mut both, 100), None, "nobody shows what it is good for");
}

/// The sides may see different rates and keys, so only one of them decides.
#[test]
fn one_side_decides() {
    let ends = |ours, theirs| {
        let mut both = [giving(1, theirs, 500 * KIB, true), giving(2, theirs, 100 * KIB, true)];
        run(&mut DuplicateTrials::default(), ours, &mut both, 30).is_some()
    };
    assert!(ends(id("-BY", 2), id("-BY", 1)) && !ends(id("-BY", 1), id("-BY", 2)));
    assert!(ends(id("-BY", 1), id("-qB", 2)), "others may never decide");
}
