//! Leechers that lie about their pieces, or do nothing.

use super::*;

/// What an attacker does, second by second.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// Claims all but this many pieces.
    AllBut(u32),
    /// Claims nothing and takes nothing.
    Silent,
    /// Takes what it is shown, and does not announce it.
    Keeps,
    /// Claims every piece that it is shown, at once.
    Claims,
    /// Reconnects after this many seconds.
    Returns(u64),
}

/// How many seconds an honest leecher, which takes shown pieces at once, needs for all 64 pieces of a seed with these attackers.
fn seconds_among(attackers: u32, lie: Lie) -> u64 {
    let (mut seed, out) = (SuperSeed::new(64, MIB / 4, 1), &mut Vec::new());
    let keys = || (100..100 + attackers).map(PeerKey);
    keys().for_each(|key| seed.join(key, seconds(0), out));
    if let Lie::AllBut(but) = lie {
        keys().for_each(|key| seed.has(key, (but..64).map(PieceIndex), seconds(0), out));
    }
    seed.join(A, seconds(1), out);
    for second in 1..600 {
        let now = seconds(second);
        if let Lie::Returns(after) = lie
            && second % after == 0
        {
            for key in keys() {
                seed.leave(key, now, out);
                seed.join(key, now, out);
            }
        }
        while let Some((key, piece)) = out.pop() {
            match lie {
                _ if key == A => seed.sent(key, (piece, MIB / 4), MIB / 4, now, out),
                Lie::Keeps => seed.sent(key, (piece, MIB / 4), MIB / 4, now, out),
                Lie::Claims => seed.has(key, std::iter::once(piece), now, out),
                _ => {}
            }
        }
        if seed.leechers[&A].has.is_full() {
            return second;
        }
        if !seed.is_over() {
            seed.tick(now, &served(keys().chain([A])), out);
        }
    }
    panic!("{attackers} attackers, {lie:?}: {} of 64 pieces", seed.leechers[&A].has.count());
}

#[test]
fn attackers_keep_nothing_from_an_honest_leecher() {
    for lie in [Lie::AllBut(1), Lie::AllBut(40), Lie::Silent, Lie::Claims, Lie::Returns(1), Lie::Returns(7)] {
        for attackers in [1, 5, 30] {
            let took = seconds_among(attackers, lie);

            assert!(took <= 40, "{attackers} attackers, {lie:?}: {took} s");
        }
    }
    // These take pieces, and each costs one copy.
    for attackers in [1, 5, 30] {
        let took = seconds_among(attackers, Lie::Keeps);

        assert!(took <= 60, "{attackers} attackers: {took} s");
    }
}

#[test]
fn one_that_claims_everything_is_one_copy_and_keeps_nothing_from_others() {
    assert!(seconds_among(1, Lie::AllBut(0)) <= 20);
}

/// A leecher that takes a block now and then does not make the others wait.
#[test]
fn a_trickle_does_not_hold_others() {
    let (mut seed, out) = (SuperSeed::new(64, MIB / 4, 1), &mut Vec::new());
    seed.join(B, seconds(0), out);
    let its = shown(out, B)[0];
    seed.join(A, seconds(0), out);
    for second in 1..=20 {
        seed.sent(B, (its, MIB / 4), 1024, seconds(second), out);
        while let Some(at) = out.iter().position(|(to, _)| *to == A) {
            let (_, piece) = out.swap_remove(at);
            seed.sent(A, (piece, MIB / 4), MIB / 4, seconds(second), out);
        }
        seed.tick(seconds(second), &served([A, B]), out);
    }
    assert!(seed.leechers[&A].has.is_full(), "{:?}", seed.leechers[&A].has.count());
}
