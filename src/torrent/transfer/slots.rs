//! Main's part in choking: tells the choker about the peers, and carries out its decisions.

use std::time::Duration;

use crate::net::networks::Network;
use crate::peer::roster::refill_idle_peers;
use crate::strategy::choker::{ChokeCandidate, ROUND as CHOKE_ROUND};
use crate::strategy::fast_grants::choked_share;
use crate::strategy::rate_limiter::Direction;
use crate::torrent::transfer::Transfer;
use crate::types::{PeerKey, Transport};

/// How often a super-seed checks which pieces to reveal.
const SUPER_SEED_TICK: Duration = Duration::from_secs(1);

impl Transfer<'_, '_> {
    /// Runs a choke round if one is due.
    pub(crate) fn run_choke_round(&mut self, now: Duration) {
        if now < self.next_choke {
            return;
        }
        self.note_timeouts();
        let candidates = self.candidates(now, true);
        let mut chosen = self.choker.round(now, self.complete_since.is_some(), &candidates);
        let waits = candidates.iter().any(|c| c.is_interested && !c.is_upload_only && !chosen.contains(&c.key));
        self.next_choke = now + self.choker.early_round_in(now).filter(|_| waits).unwrap_or(CHOKE_ROUND);
        if self.context.is_paused() {
            chosen.clear();
        }
        for candidate in &candidates {
            if let Some(peer) = self.context.roster.get(candidate.key) {
                peer.set_choke(!chosen.contains(&candidate.key));
                peer.choking.left_slot_idle.set(self.choker.left_slot_idle(candidate.key));
                peer.choking.is_snubbing.set(self.choker.is_snubbing(now, candidate.key));
            }
        }
        self.update_choked_share(&candidates);
        self.close_duplicates(now, &candidates);
        self.drop_useless_peer(now, &candidates);
    }

    /// Lets all choked peers together have what an upload slot has.
    pub(crate) fn update_choked_share(&self, candidates: &[ChokeCandidate]) {
        let throttle = &self.context.settings.throttle;
        let rates = candidates.iter().filter(|c| c.is_unchoked).map(|c| c.up_rate);
        throttle.set_choked_share(choked_share(rates, throttle.fair_share(Direction::Up), self.choker.slots()));
    }

    /// Lets a super-seed check once a second whether to reveal more pieces.
    pub(crate) fn tick_super_seeding(&mut self, now: Duration) {
        if now >= self.next_super_seed_tick
            && let Some(super_seeding) = self.context.active_super_seed()
        {
            super_seeding.tick(self.context);
            self.next_super_seed_tick = now + SUPER_SEED_TICK;
        }
    }

    /// Pauses or resumes as the handle last requested. During a pause, requests are cancelled and no peer has an upload slot.
    pub(crate) fn apply_pause(&mut self) {
        let changes = self.context.settings.run.changes();
        if std::mem::replace(&mut self.applied_changes, changes) == changes || self.is_stopped() {
            return;
        }
        self.next_choke = Duration::ZERO;
        if self.context.is_paused() {
            self.context.roster.all().iter().for_each(|peer| peer.cancel_all(self.context));
        } else {
            refill_idle_peers(self.context);
        }
        self.run_choke_round(self.context.now());
    }

    /// Gives the slot of a peer that has left to a waiting peer. Otherwise it would stay empty until the next round.
    pub(crate) fn fill_free_slot(&mut self) {
        if self.context.is_paused() {
            return;
        }
        let (now, seeding) = (self.context.now(), self.complete_since.is_some());
        let candidates = self.candidates(now, false);
        let waiting = self.choker.fill_free_slot(now, seeding, &candidates);
        if let Some(peer) = waiting.and_then(|key| self.context.roster.get(key)) {
            peer.set_choke(false);
        }
    }

    /// The connected peers as candidates for the choker. `is_round` tells whether a choke round begins; the rates are those of the
    /// last ten to twenty seconds.
    fn candidates(&mut self, now: Duration, is_round: bool) -> Vec<ChokeCandidate> {
        self.choker.set_upload_limit(self.context.settings.throttle.fair_share(Direction::Up));
        let is_proxied = self.context.settings.route.proxy().is_some();
        let paused = self.context.is_paused(); // then we request nothing, and no peer owes us blocks
        let mut candidates = Vec::with_capacity(self.peer_manager.connections.len());
        for peer in self.context.roster.all() {
            let Some(entry) = self.peer_manager.connections.get_mut(&peer.key) else { continue };
            let received = peer.rates.downloaded.get();
            // Bytes that wait in the kernel say nothing about the upload rate.
            let sent_to_kernel = peer.rates.sent_to_kernel.get();
            let before = entry.delivered.payload;
            if is_round && sent_to_kernel > before {
                let figures = peer.link_figures(self.tcp_diag.as_ref());
                let acknowledged = figures.map(|figures| figures.acknowledged);
                entry.delivered.update(sent_to_kernel, peer.rates.uploaded.get(), acknowledged);
                // Through a proxy, it is the proxy that reads.
                if let Some(figures) = figures.as_ref().filter(|_| !is_proxied) {
                    entry.reading_pace.observe(figures);
                }
            }
            if is_round && (self.tcp_diag.is_some() || peer.transport == Transport::Utp) {
                entry.delivered.note_progress(now, sent_to_kernel, before);
            }
            // Bytes in transit show that the peer has requested more than it has, unless it does not read.
            let waits = peer.serving.queued_requests.get() > 0 || sent_to_kernel > entry.delivered.payload;
            let is_requesting = waits && !entry.delivered.is_stuck(now);
            let (sent, is_unchoked) = (entry.delivered.payload, !peer.choking.am_choking.is_set());
            let (then, received_then, sent_then) = entry.rate_samples[0];
            let rate = |bytes: u64| (bytes as f64 / (now.saturating_sub(then).as_secs_f64()).max(1.0)) as u64;
            // Rounds may come in quicker succession.
            if is_round && now >= entry.rate_samples[1].0 + CHOKE_ROUND {
                entry.rate_samples = [entry.rate_samples[1], (now, received, sent)];
            }
            candidates.push(ChokeCandidate {
                key: peer.key,
                host: Network::host(peer.addr.ip()),
                network: Network::subnet(peer.addr.ip()),
                is_requesting,
                reads_slowly: is_unchoked && is_requesting && entry.reading_pace.is_slow(),
                is_interested: peer.choking.peer_interested.is_set(),
                is_upload_only: peer.extensions.upload_only.is_set(),
                is_unchoked,
                owes_blocks: !paused && peer.choking.am_interested.is_set() && !peer.choking.peer_choking.is_set(),
                down_rate: rate(received.saturating_sub(received_then)),
                up_rate: rate(sent.saturating_sub(sent_then)),
                received,
                sent,
                since: peer.since,
            });
        }
        // A seed downloads nothing, whether it says so (BEP 21) or not.
        for candidate in &mut candidates {
            candidate.is_upload_only |= self.context.pieces.peer_is_seed(candidate.key);
        }
        candidates
    }

    /// A peer became interested or lost interest: gives it a free slot at once, or takes its slot away.
    pub(crate) fn interest_changed(&mut self, key: PeerKey) {
        let Some(peer) = self.context.roster.get(key) else { return };
        peer.choking.interest_reported.set(false);
        let interested = peer.choking.peer_interested.is_set();
        if !interested {
            let had_slot = !peer.choking.am_choking.is_set();
            peer.set_choke(true);
            if had_slot {
                self.fill_free_slot();
            }
            return;
        }
        let (now, seeding) = (self.context.now(), self.complete_since.is_some());
        let candidates = self.candidates(now, false);
        if !self.context.is_paused() && self.choker.can_unchoke_now(now, seeding, &candidates, key) {
            peer.set_choke(false);
        } else if let Some(look) = self.choker.early_round_for_newcomer(now) {
            self.next_choke = self.next_choke.min(now + look);
        }
    }
}
