use super::*;
use crate::types::Bitfield;

mod attackers;

const A: PeerKey = PeerKey(1);
const B: PeerKey = PeerKey(2);
const C: PeerKey = PeerKey(3);
const MIB: u32 = 1 << 20;

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn served(keys: impl IntoIterator<Item = PeerKey>) -> HashMap<PeerKey, LeecherStanding> {
    keys.into_iter().map(|key| (key, LeecherStanding::Served)).collect()
}

/// Three leechers: the first has this standing, the others are served.
fn standing(first: LeecherStanding) -> HashMap<PeerKey, LeecherStanding> {
    HashMap::from([(A, first), (B, LeecherStanding::Served), (C, LeecherStanding::Served)])
}

/// The pieces shown to `key` in `out`, which is emptied.
fn shown(out: &mut HavesToSend, key: PeerKey) -> Vec<PieceIndex> {
    let (its, others): (HavesToSend, HavesToSend) = out.drain(..).partition(|(to, _)| *to == key);
    assert!(others.is_empty(), "others were shown {others:?}");
    its.into_iter().map(|(_, piece)| piece).collect()
}

/// Makes the upload busy.
fn busy(seed: &mut SuperSeed) {
    seed.upload.sent(MIB);
}

#[test]
fn each_sees_two_pieces_of_its_own_and_another_when_one_has_spread() {
    let (mut seed, out) = (SuperSeed::new(100, MIB, 1), &mut Vec::new());
    seed.join(A, seconds(0), out);
    let a = shown(out, A);
    seed.join(B, seconds(0), out);
    let b = shown(out, B);
    assert_eq!((a.len(), b.len()), (2, 2));
    assert!(a.iter().all(|piece| !b.contains(piece)), "one piece is shown to one");
    assert!(seed.is_shown(A, a[0]) && !seed.is_shown(B, a[0]) && !seed.is_shown(C, a[0]));

    seed.has(A, a.iter().copied(), seconds(1), out);
    assert!(shown(out, A).is_empty(), "to have it is not to pass it on");
    seed.has(B, a[..1].iter().copied(), seconds(2), out);
    let next = shown(out, A);
    assert_eq!(next.len(), 1);
    assert!(!a.contains(&next[0]) && !b.contains(&next[0]));
    seed.has(B, a[..1].iter().copied(), seconds(3), out);
    assert!(out.is_empty(), "a known piece is not reported again");
}

#[test]
fn a_lone_leecher_does_not_wait() {
    let (mut seed, out) = (SuperSeed::new(5, MIB, 1), &mut Vec::new());
    seed.join(A, seconds(0), out);
    let mut view = shown(out, A);
    while let Some(piece) = view.pop() {
        seed.has(A, std::iter::once(piece), seconds(1), out);
        view.extend(shown(out, A));
    }
    assert_eq!(seed.hidden(A).count(), 0);
    assert!(!seed.is_over(), "one other copy is not enough");
}

#[test]
fn small_pieces_are_shown_by_several() {
    let (mut seed, out) = (SuperSeed::new(100, 64 * 1024, 1), &mut Vec::new());
    seed.join(A, seconds(0), out);
    assert_eq!(shown(out, A).len(), 8);
}

#[test]
fn a_leecher_that_passes_no_piece_on_waits() {
    let (mut seed, out) = (SuperSeed::new(100, MIB, 1), &mut Vec::new());
    seed.join(A, seconds(0), out);
    let a = shown(out, A);
    seed.join(B, seconds(0), out);
    out.clear();
    seed.has(A, a.iter().copied(), seconds(5), out);
    busy(&mut seed);
    seed.tick(seconds(34), &served([A, B]), out);
    assert!(out.is_empty());
    busy(&mut seed);
    seed.tick(seconds(35), &served([A, B]), out);
    assert_eq!(shown(out, A).len(), 2);
}

#[test]
fn an_offer_that_is_not_taken_is_shown_to_another() {
    for (how, patience) in
        [(LeecherStanding::Uninterested, 10), (LeecherStanding::Waiting, 30), (LeecherStanding::Served, 60)]
    {
        let (mut seed, out) = (SuperSeed::new(2, MIB, 1), &mut Vec::new());
        seed.join(A, seconds(0), out);
        assert_eq!(shown(out, A).len(), 2);
        seed.tick(seconds(0), &standing(how), out);
        seed.join(B, seconds(patience - 2), out);
        busy(&mut seed);
        seed.tick(seconds(patience - 1), &standing(how), out);
        assert!(out.is_empty(), "nothing is fresh");
        seed.tick(seconds(patience), &standing(how), out);
        assert_eq!(shown(out, B).len(), 2, "{how:?}");
    }
}

#[test]
fn the_place_of_a_withdrawn_offer_is_free() {
    for (how, patience) in [(LeecherStanding::Uninterested, 10), (LeecherStanding::Served, 60)] {
        let (mut seed, out) = (SuperSeed::new(4, MIB, 1), &mut Vec::new());
        seed.join(A, seconds(0), out);
        let first = shown(out, A);
        seed.tick(seconds(0), &standing(how), out);
        seed.tick(seconds(patience), &standing(how), out);
        let next = shown(out, A);
        assert_eq!(next.len(), 2, "{how:?}");
        assert!(next.iter().all(|piece| !first.contains(piece)));
    }
    // A choked leecher cannot take anything: it keeps its offers and is shown nothing else.
    let (mut seed, out) = (SuperSeed::new(4, MIB, 1), &mut Vec::new());
    seed.join(A, seconds(0), out);
    assert_eq!(shown(out, A).len(), 2);
    for now in (0..=25).step_by(5) {
        seed.tick(seconds(now), &standing(LeecherStanding::Waiting), out);
    }
    assert!(out.is_empty());
    // Once unchoked, it has as much time as any other.
    seed.tick(seconds(26), &standing(LeecherStanding::Served), out);
    seed.tick(seconds(85), &standing(LeecherStanding::Served), out);
    assert!(out.is_empty());
    seed.tick(seconds(86), &standing(LeecherStanding::Served), out);
    assert_eq!(shown(out, A).len(), 2);
}

#[test]
fn a_piece_that_was_sent_completely_counts_as_taken() {
    let (mut seed, out) = (SuperSeed::new(100, MIB, 1), &mut Vec::new());
    seed.join(A, seconds(0), out);
    let a = shown(out, A);
    for sent in 1..=16 {
        assert!(out.is_empty(), "after {} blocks", sent - 1);
        seed.sent(A, (a[0], MIB), MIB / 16, seconds(sent), out);
    }
    // It is alone, so the piece need not spread.
    assert_eq!(shown(out, A).len(), 1);
    seed.has(A, std::iter::once(a[0]), seconds(20), out);
    seed.sent(A, (a[0], MIB), MIB, seconds(20), out);
    assert!(out.is_empty(), "a known piece is not reported again");
    assert!(seed.leechers[&A].sent.is_empty());
    // With another leecher connected, the piece has spread once that one has it.
    seed.sent(A, (a[1], MIB), MIB - 1, seconds(21), out);
    seed.join(B, seconds(21), out);
    out.clear();
    seed.sent(A, (a[1], MIB), 1, seconds(22), out);
    assert!(out.is_empty());
    seed.has(B, std::iter::once(a[1]), seconds(23), out);
    assert_eq!(shown(out, A).len(), 1);
}

#[test]
fn an_offer_of_which_something_is_sent_now_and_then_is_not_withdrawn() {
    let (mut seed, out) = (SuperSeed::new(2, MIB, 1), &mut Vec::new());
    seed.join(A, seconds(0), out);
    let a = shown(out, A);
    for now in (0..600).step_by(50) {
        for &piece in &a {
            seed.sent(A, (piece, MIB), 1, seconds(now), out);
        }
        seed.tick(seconds(now), &standing(LeecherStanding::Served), out);
    }
    assert_eq!(seed.leechers[&A].offers.iter().filter(|offer| offer.state == OfferState::Open).count(), 2);
}

#[test]
fn a_leecher_that_gets_nothing_from_others_sees_the_rarest_pieces() {
    let (mut seed, out) = (SuperSeed::new(3, MIB, 1), &mut Vec::new());
    seed.join(A, seconds(0), out);
    seed.join(B, seconds(0), out);
    seed.has(A, (0..3).map(PieceIndex), seconds(1), out);
    seed.has(B, [PieceIndex(0), PieceIndex(1)].into_iter(), seconds(1), out);
    out.clear();
    seed.join(C, seconds(1), out);
    assert!(out.is_empty());
    busy(&mut seed);
    seed.tick(seconds(31), &served([C]), out);
    assert!(out.contains(&(C, PieceIndex(2))), "{out:?}");
}

#[test]
fn pieces_of_a_leaving_leecher_are_fresh_again() {
    let (mut seed, out) = (SuperSeed::new(2, MIB, 1), &mut Vec::new());
    seed.join(A, seconds(0), out);
    seed.has(A, std::iter::once(PieceIndex(0)), seconds(1), out);
    seed.join(B, seconds(1), out);
    out.clear();
    seed.leave(A, seconds(2), out);
    assert_eq!(shown(out, B).len(), 2);
    seed.leave(A, seconds(2), out);
    seed.leave(B, seconds(2), out);
    assert!(out.is_empty());
    assert_eq!((seed.fresh, &seed.spread[..]), (2, &[PieceSpread::default(); 2][..]));
}

#[test]
fn super_seeding_ends_with_two_other_copies() {
    let (mut seed, out) = (SuperSeed::new(4, MIB, 1), &mut Vec::new());
    for (key, over) in [(A, false), (B, true)] {
        seed.join(key, seconds(0), out);
        seed.has(key, (0..4).map(PieceIndex), seconds(1), out);
        seed.has(key, (0..4).map(PieceIndex), seconds(1), out);
        assert_eq!(seed.is_over(), over);
    }
}

#[test]
fn one_that_wants_nothing_of_all_that_it_was_shown_has_everything() {
    let (mut seed, out) = (SuperSeed::new(2, MIB, 1), &mut Vec::new());
    for key in [A, B] {
        seed.join(key, seconds(0), out);
    }
    seed.has(A, std::iter::once(PieceIndex(0)), seconds(0), out);
    seed.has(B, (0..2).map(PieceIndex), seconds(0), out);
    seed.tick(seconds(1), &standing(LeecherStanding::Uninterested), out);
    seed.tick(seconds(10), &standing(LeecherStanding::Uninterested), out);
    assert!(!seed.is_over(), "interest may be on its way");
    seed.tick(seconds(11), &standing(LeecherStanding::Uninterested), out);
    assert_eq!(seed.is_over(), seed.hidden(A).next().is_none());
    seed.tick(seconds(12), &standing(LeecherStanding::Served), out);
    seed.tick(seconds(60), &standing(LeecherStanding::Uninterested), out);
    seed.tick(seconds(70), &standing(LeecherStanding::Uninterested), out);
    assert!(seed.is_over() && seed.full == 2, "each counts once");
}

#[test]
fn unknown_leechers_and_pieces_are_ignored() {
    let (mut seed, out) = (SuperSeed::new(0, 0, 1), &mut Vec::new());
    seed.join(A, seconds(0), out);
    seed.has(A, std::iter::once(PieceIndex(9)), seconds(0), out);
    seed.has(B, std::iter::once(PieceIndex(0)), seconds(0), out);
    seed.tick(seconds(500), &served([A]), out);
    assert!(out.is_empty() && !seed.is_shown(A, PieceIndex(0)) && seed.hidden(B).count() == 0);
}

#[test]
fn a_leecher_that_gets_pieces_from_others_is_sent_no_second_copy() {
    let (mut seed, out) = (SuperSeed::new(4, MIB, 1), &mut Vec::new());
    seed.join(A, seconds(0), out);
    let a = shown(out, A);
    for piece in a {
        seed.sent(A, (piece, MIB), MIB, seconds(0), out);
    }
    let rest = shown(out, A);
    for piece in rest {
        seed.sent(A, (piece, MIB), MIB, seconds(0), out);
    }
    seed.join(B, seconds(1), out);
    for (now, piece) in [(2, 0), (6, 1), (10, 2)] {
        seed.has(B, std::iter::once(PieceIndex(piece)), seconds(now), out);
        for tick in now..now + 4 {
            seed.tick(seconds(tick), &served([A, B]), out);
        }
        assert!(out.is_empty(), "{out:?} at {now}");
    }
    seed.tick(seconds(15), &served([A, B]), out);
    assert_eq!(out[..], [(B, PieceIndex(3))]);
    seed.leave(A, seconds(16), out);
    assert!(seed.spread.iter().all(|spread| spread.given == 0));
}

/// Some clients request more only once per second. One that takes everything it was shown at once is shown more each time.
#[test]
fn a_leecher_that_takes_its_window_at_once_gets_a_larger_one() {
    let (mut seed, out) = (SuperSeed::new(400, MIB / 8, 1), &mut Vec::new());
    seed.join(A, seconds(0), out);
    let mut views = Vec::new();
    for second in 1..=8 {
        let view = shown(out, A);
        views.push(view.len());
        for piece in view {
            seed.sent(A, (piece, MIB / 8), MIB / 8, seconds(second), out);
        }
    }
    assert_eq!(views[..2], [4, 8]);
    assert_eq!(views.iter().max(), Some(&64), "{views:?}");
    // A slow leecher is shown no more than at first.
    seed.join(B, seconds(9), out);
    for second in (10..30).step_by(2) {
        seed.sent(B, (PieceIndex(0), MIB / 8), 1, seconds(second), out);
    }
    assert_eq!(seed.leechers[&B].window, 4);
}

/// How many copies a seed uploads until two of `n` leechers have every piece. The seed uploads four pieces per second, one per
/// leecher at most. Leechers pass on one piece per second each, the rarest first. Without `hides` everybody sees every piece.
/// Without `tells` leechers send no HAVE for a piece that they were shown.
fn copies_sent(n: u32, pieces: u32, hides: bool, tells: bool, chance: u64) -> f64 {
    let mut rng = fastrand::Rng::with_seed(chance);
    let (mut seed, out) = (SuperSeed::new(pieces, MIB, chance), &mut Vec::new());
    let mut have = vec![Bitfield::new(pieces); n as usize];
    let key = |who: usize| PeerKey(who as u32);
    (0..n as usize).for_each(|who| seed.join(key(who), seconds(0), out));
    let mut sent = 0;
    for second in 1..100_000 {
        if seed.is_over() {
            return f64::from(sent) / f64::from(pieces);
        }
        let now = seconds(second);
        let rarity: Vec<_> = (0..pieces).map(|p| have.iter().filter(|h| h.has(PieceIndex(p))).count()).collect();
        let mut gained = Vec::new();
        let mut order: Vec<usize> = (0..n as usize).collect();
        rng.shuffle(&mut order);
        for (slot, &to) in order.iter().enumerate() {
            // From another leecher, and from the seed while it has slots.
            let from = rng.usize(..n as usize);
            let mut rarest = |view: &dyn Fn(PieceIndex) -> bool| {
                let lacks = (0..pieces).map(PieceIndex).filter(|&p| view(p) && !have[to].has(p));
                lacks.min_by_key(|p| (rarity[p.as_usize()], rng.u32(..)))
            };
            gained.extend(rarest(&|piece| have[from].has(piece)).map(|piece| (to, piece)));
            if slot < 4
                && let Some(piece) = rarest(&|piece| !hides || seed.is_shown(key(to), piece))
            {
                sent += 1;
                seed.sent(key(to), (piece, MIB), MIB, now, out);
                gained.push((to, piece));
            }
        }
        for (who, piece) in gained {
            have[who].set(piece);
            if tells || !seed.is_shown(key(who), piece) {
                seed.has(key(who), std::iter::once(piece), now, out);
            }
        }
        // A leecher that has every piece it was shown is not interested.
        let wants = |who: usize| (0..pieces).map(PieceIndex).any(|p| seed.is_shown(key(who), p) && !have[who].has(p));
        let standing = |who| if wants(who) { LeecherStanding::Served } else { LeecherStanding::Uninterested };
        let standings = (0..n as usize).map(|who| (key(who), standing(who))).collect();
        seed.tick(now, &standings, out);
    }
    panic!("{n} leechers of {pieces} pieces never finished");
}

#[test]
fn little_more_than_one_copy_is_sent() {
    for (n, pieces) in [(3, 60), (10, 100), (40, 200)] {
        for (tells, chance) in [(true, 0), (true, 1), (true, 2), (false, 0), (false, 1)] {
            let sent = copies_sent(n, pieces, true, tells, chance);

            assert!((1.0..1.15).contains(&sent), "{sent} copies for {n} leechers of {pieces} pieces, {tells}");
        }
    }
    assert!(copies_sent(10, 100, false, true, 1) > 1.3, "the measure must tell super-seeding from seeding");
}
