//! The limits that apply to one torrent: its own, those of a group of torrents, and those of its client. Blocks for choked peers
//! are under one more, which main sets.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::peer::throttle::{LimitGroup, Throttle};
use crate::strategy::fast_grants::IDLE_CHOKED_SHARE;
use crate::strategy::rate_limiter::{Direction, FlowId, Grant, Limits};
use crate::types::PeerKey;
use crate::util::atomics::Flag;

/// The number of levels: blocks for choked peers, the torrent itself, its group, its client.
const LEVELS: usize = 4;

/// A connection that asks the limits for bytes.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// The connection.
    pub flow: FlowId,
    /// Whether it sends or receives.
    pub direction: Direction,
    /// Whether it sends blocks that a choked peer requested (BEP 6).
    pub serves_choked_peer: bool,
}

/// The limits that apply to a torrent. A connection needs the permission of each level that has a limit. The client's limiter
/// comes last, so that no torrent holds bytes of it while it waits for its own limits.
///
/// A torrent under the client's limits alone pays one atomic load for this.
#[derive(Default)]
pub struct TorrentThrottle {
    /// What all torrents of the client share.
    pub client: Arc<Throttle>,
    /// Whether other limits than the client's apply.
    is_custom: Flag,
    own: LimitGroup,
    ignores_client: Flag,
    membership: Mutex<GroupMembership>,
    /// What all choked peers of the torrent together may have of its upload.
    choked: LimitGroup,
}

/// The group of a torrent.
#[derive(Default)]
struct GroupMembership {
    group: Option<Arc<LimitGroup>>,
    /// Earlier groups, whose limiters may still know connections of the torrent.
    former: Vec<Weak<LimitGroup>>,
    /// The torrent transfers data, and counts in its group.
    is_active: bool,
}

/// The limits that apply at one moment, by level.
struct LimitLevels<'a> {
    choked: Option<&'a LimitGroup>,
    own: Option<&'a LimitGroup>,
    group: Option<Arc<LimitGroup>>,
    client: Option<&'a LimitGroup>,
}

impl LimitLevels<'_> {
    fn by_level(&self) -> [Option<&LimitGroup>; LEVELS] {
        [self.choked, self.own, self.group.as_deref(), self.client]
    }

    /// The least figure of all levels that have one; 0 if none has.
    fn least(&self, figure: impl Fn(&LimitGroup) -> u64) -> u64 {
        self.by_level().into_iter().flatten().map(figure).filter(|&figure| figure > 0).min().unwrap_or(0)
    }
}

impl TorrentThrottle {
    /// The limits of a torrent of the client with this throttle, without limits of its own.
    pub fn new(client: Arc<Throttle>) -> TorrentThrottle {
        let throttle = TorrentThrottle { client, ..TorrentThrottle::default() };
        throttle.set_choked_share(IDLE_CHOKED_SHARE);
        throttle
    }

    /// The torrent's own limits.
    pub fn limits(&self) -> Limits {
        self.own.limits()
    }

    /// Changes the torrent's own limits.
    pub fn set(&self, limits: Limits) {
        self.own.set(limits);
        self.update_custom(&self.membership.lock());
    }

    /// Sets whether the client's limits do not apply to this torrent.
    pub fn set_ignores_client(&self, ignores_client: bool) {
        self.ignores_client.set(ignores_client);
        self.update_custom(&self.membership.lock());
    }

    /// Puts the torrent under the limits of a group, in place of its earlier group.
    pub fn set_group(&self, group: Option<Arc<LimitGroup>>) {
        let mut membership = self.membership.lock();
        if membership.is_active {
            if let Some(before) = &membership.group {
                before.torrent_stopped();
            }
            if let Some(group) = &group {
                group.torrent_started();
            }
        }
        if let Some(before) = std::mem::replace(&mut membership.group, group) {
            membership.former.retain(|former| former.strong_count() > 0 && former.as_ptr() != Arc::as_ptr(&before));
            membership.former.push(Arc::downgrade(&before));
        }
        self.update_custom(&membership);
    }

    /// The group, if there is one.
    pub fn group(&self) -> Option<Arc<LimitGroup>> {
        self.membership.lock().group.clone()
    }

    fn update_custom(&self, membership: &GroupMembership) {
        let is_custom =
            self.own.limits() != Limits::default() || membership.group.is_some() || self.ignores_client.is_set();
        self.is_custom.set(is_custom);
    }

    /// The torrent transfers data until the guard is dropped: it counts among the torrents of its group.
    pub fn activate(self: &Arc<TorrentThrottle>) -> ActiveInGroup {
        self.set_active(true);
        ActiveInGroup(self.clone())
    }

    fn set_active(&self, is_active: bool) {
        let mut membership = self.membership.lock();
        if std::mem::replace(&mut membership.is_active, is_active) != is_active
            && let Some(group) = &membership.group
        {
            if is_active { group.torrent_started() } else { group.torrent_stopped() }
        }
    }

    /// Sets how many bytes a second all choked peers together may have.
    pub fn set_choked_share(&self, bytes_per_second: u64) {
        let limits = Limits { down: 0, up: bytes_per_second.max(1) };
        if self.choked.limits() != limits {
            self.choked.set(limits);
        }
    }

    fn levels(&self, serves_choked_peer: bool) -> LimitLevels<'_> {
        let choked = serves_choked_peer.then_some(&self.choked);
        let client = Some(self.client.limit_group());
        if !self.is_custom.is_set() {
            return LimitLevels { choked, own: None, group: None, client };
        }
        let group = self.group();
        let ignores_client = self.ignores_client.is_set() || group.as_ref().is_some_and(|group| group.ignores_client());
        LimitLevels { choked, own: Some(&self.own), group, client: client.filter(|_| !ignores_client) }
    }

    /// The limit in this direction, in bytes per second; 0 for none.
    pub fn limit(&self, direction: Direction) -> u64 {
        if !self.is_custom.is_set() {
            return self.client.limit_group().limit(direction);
        }
        self.levels(false).least(|level| level.limit(direction))
    }

    /// The torrent's equal share of the limits in this direction, in bytes per second; 0 for no limit.
    pub fn fair_share(&self, direction: Direction) -> u64 {
        self.levels(false).least(|level| level.fair_share(direction))
    }

    /// Removes a connection that has ended from all limiters.
    pub fn remove_peer(&self, key: PeerKey) {
        self.client.limit_group().remove_peer(key);
        self.own.remove_peer(key);
        self.choked.remove_peer(key);
        let groups: Vec<Arc<LimitGroup>> = {
            let membership = self.membership.lock();
            membership.group.iter().cloned().chain(membership.former.iter().filter_map(Weak::upgrade)).collect()
        };
        for group in groups {
            group.remove_peer(key);
        }
    }
}

/// Counts a torrent among the active ones of its group until it is dropped.
pub struct ActiveInGroup(Arc<TorrentThrottle>);

impl Drop for ActiveInGroup {
    fn drop(&mut self) {
        self.0.set_active(false);
    }
}

/// What each level has granted to one connection and what it has not used.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LevelGrants([u64; LEVELS]);

impl LevelGrants {
    /// Asks each level that has a limit until it has granted `least` of `want` bytes. Returns how many bytes all levels have
    /// granted, `u64::MAX` if none has a limit, or how long to wait before asking again; what was granted so far is kept.
    pub fn collect(&mut self, throttle: &TorrentThrottle, demand: Demand, least: u64, want: u64) -> Grant {
        let mut usable = u64::MAX;
        let want = want.max(least);
        for (granted, level) in self.0.iter_mut().zip(throttle.levels(demand.serves_choked_peer).by_level()) {
            let Some(level) = level.filter(|level| level.limit(demand.direction) > 0) else {
                *granted = 0;
                continue;
            };
            let want = want.min(usable);
            while *granted < least {
                match level.ask(demand.direction, demand.flow, want.saturating_sub(*granted)) {
                    Grant::Go(bytes) => *granted += bytes,
                    Grant::Wait(pause) => return Grant::Wait(pause),
                }
            }
            usable = usable.min(*granted);
        }
        Grant::Go(usable)
    }

    /// These bytes have been used.
    pub fn spend(&mut self, bytes: u64) {
        self.0.iter_mut().for_each(|granted| *granted = granted.saturating_sub(bytes));
    }

    /// These bytes have not been used after all.
    pub fn refund(&mut self, bytes: u64) {
        self.0.iter_mut().for_each(|granted| *granted = granted.saturating_add(bytes));
    }

    /// Forgets all grants, because there is no limit.
    pub fn clear(&mut self) {
        self.0 = [0; LEVELS];
    }

    /// Returns what is left to the limiters.
    pub fn give_back(&mut self, throttle: &TorrentThrottle, direction: Direction, key: PeerKey) {
        let granted = std::mem::take(&mut self.0);
        if granted == [0; LEVELS] {
            return;
        }
        for (bytes, level) in granted.into_iter().zip(throttle.levels(true).by_level()) {
            if let Some(level) = level {
                level.give_back(direction, key, bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests;
