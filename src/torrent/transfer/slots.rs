//! The conductor's part about slots: it shows the choker who is there, and does what it decides.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::net::networks::Network;
use crate::peer::roster::feed_the_hungry;
use crate::strategy::choker::{Candidate, ROUND as CHOKE_ROUND};
use crate::strategy::rate_limiter::Direction;
use crate::torrent::transfer::Conductor;
use crate::types::PeerKey;

/// Between two looks of a super-seed at what it has shown.
const REVEAL: Duration = Duration::from_secs(1);

impl Conductor<'_> {
    /// Gives the slots anew where it is time.
    pub(crate) fn choke(&mut self, now: Duration) {
        if now < self.next_choke {
            return;
        }
        self.note_timeouts();
        let candidates = self.candidates(now, true);
        let mut chosen = self.choker.round(now, self.whole_since.is_some(), &candidates);
        let waits = candidates.iter().any(|c| c.interested && !c.upload_only && !chosen.contains(&c.key));
        self.next_choke = now + self.choker.look_again(now).filter(|_| waits).unwrap_or(CHOKE_ROUND);
        if self.shared.is_paused() {
            chosen.clear();
        }
        for candidate in &candidates {
            if let Some(peer) = self.shared.roster.get(candidate.key) {
                peer.set_choke(!chosen.contains(&candidate.key));
                peer.idled.store(self.choker.idled(candidate.key), Ordering::Relaxed);
                peer.snubs.store(self.choker.snubs(now, candidate.key), Ordering::Relaxed);
            }
        }
        self.merge_twins(&candidates);
        self.turn_over(now, &candidates);
    }

    /// Lets a super-seed look once a second whether it shows somebody more.
    pub(crate) fn reveal(&mut self, now: Duration) {
        if now >= self.next_reveal
            && let Some(reveal) = self.shared.revealing()
        {
            reveal.tick(self.shared);
            self.next_reveal = now + REVEAL;
        }
    }

    /// Stops or goes on, as the handles say last: in a pause requests are taken back, and nobody has a slot.
    pub(crate) fn pause(&mut self) {
        let paused = self.contacts.inner.paused.load(Ordering::Acquire);
        if self.shared.paused.swap(paused, Ordering::AcqRel) == paused {
            return;
        }
        self.next_choke = Duration::ZERO;
        if paused {
            self.shared.roster.all().iter().for_each(|peer| peer.call_off(self.shared));
        } else {
            feed_the_hungry(self.shared);
        }
        self.choke(self.shared.now());
    }

    /// The connected peers as the choker sees them. A round that begins is noted; the rates are those of the last ten to twenty seconds.
    fn candidates(&mut self, now: Duration, round: bool) -> Vec<Candidate> {
        self.choker.set_upload_limit(self.shared.throttle.part(Direction::Up));
        let paused = self.shared.is_paused(); // then nothing is asked for, and nobody owes
        let mut candidates = Vec::with_capacity(self.contacts.lines.len());
        for peer in self.shared.roster.all() {
            let Some(line) = self.contacts.lines.get_mut(&peer.key) else { continue };
            let received = peer.downloaded.load(Ordering::Relaxed);
            // What waits in the kernel says nothing of the way up.
            let handed = peer.handed.load(Ordering::Relaxed);
            let before = line.arrived.payload;
            if round && handed > before {
                let acknowledged = self.acknowledged.as_ref().and_then(|kernel| peer.acknowledged(kernel));
                line.arrived.update(handed, peer.uploaded.load(Ordering::Relaxed), acknowledged);
            }
            if round && self.acknowledged.is_some() {
                line.arrived.note_growth(now, handed, before);
            }
            // What is on its way to it says that it has asked for more than it has, unless it does not read.
            let waits = peer.serving.load(Ordering::Acquire) > 0 || handed > line.arrived.payload;
            let asks = waits && !line.arrived.is_stuck(now);
            let sent = line.arrived.payload;
            let (then, received_then, sent_then) = line.seen[0];
            let rate = |bytes: u64| (bytes as f64 / (now.saturating_sub(then).as_secs_f64()).max(1.0)) as u64;
            // Rounds may follow each other sooner.
            if round && now >= line.seen[1].0 + CHOKE_ROUND {
                line.seen = [line.seen[1], (now, received, sent)];
            }
            candidates.push(Candidate {
                key: peer.key,
                network: Network::block(peer.addr.ip()),
                asks,
                interested: peer.peer_interested.load(Ordering::Acquire),
                upload_only: peer.upload_only.load(Ordering::Acquire),
                unchoked: !peer.am_choking.load(Ordering::Acquire),
                owes: !paused
                    && peer.am_interested.load(Ordering::Acquire)
                    && !peer.peer_choking.load(Ordering::Acquire),
                down_rate: rate(received.saturating_sub(received_then)),
                up_rate: rate(sent.saturating_sub(sent_then)),
                received,
                sent,
                since: peer.since,
            });
        }
        // A seed takes nothing, whether it says so (BEP 21) or not.
        for candidate in &mut candidates {
            candidate.upload_only |= self.shared.pieces.is_seed(candidate.key);
        }
        candidates
    }

    /// A peer has become interested, or lost its interest: a free slot is given at once.
    pub(crate) fn interest(&mut self, key: PeerKey) {
        let Some(peer) = self.shared.roster.get(key) else { return };
        peer.interest_reported.store(false, Ordering::Release);
        let interested = peer.peer_interested.load(Ordering::Acquire);
        let (now, seeding) = (self.shared.now(), self.whole_since.is_some());
        let candidates = self.candidates(now, false);
        if interested && !self.shared.is_paused() && self.choker.grant_now(now, seeding, &candidates, key) {
            peer.set_choke(false);
        } else if !interested {
            peer.set_choke(true);
        } else if let Some(look) = self.choker.look_for_newcomer(now) {
            self.next_choke = self.next_choke.min(now + look);
        }
    }
}
