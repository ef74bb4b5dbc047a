//! The order of the torrents in the queue, and how it is saved: each torrent has a number, and moving one changes only its own.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::service::manager::Manager;
use crate::service::model::{ControlError, QueueMove, TorrentId};
use crate::service::record::{QUEUE_STEP, TorrentRecord};

impl Manager {
    /// Moves torrents in the queue.
    pub(super) fn move_in_queue(&mut self, ids: &[TorrentId], to: &QueueMove) -> Result<(), ControlError> {
        let mut order = self.queue_order();
        let moved: BTreeSet<TorrentId> = ids.iter().copied().collect();
        match to {
            QueueMove::Top => order.sort_by_key(|id| !moved.contains(id)),
            QueueMove::Bottom => order.sort_by_key(|id| moved.contains(id)),
            QueueMove::Up => step_towards_start(&mut order, &moved),
            QueueMove::Down => {
                order.reverse();
                step_towards_start(&mut order, &moved);
                order.reverse();
            }
        }
        self.save_queue(&order, &moved)
    }

    /// Gives torrents a position in the queue; the others make room.
    pub(super) fn set_queue_position(&mut self, ids: &[TorrentId], position: usize) -> Result<(), ControlError> {
        let chosen: Vec<TorrentId> = ids.iter().filter(|id| self.torrents.contains_key(id)).copied().collect();
        let moved: BTreeSet<TorrentId> = chosen.iter().copied().collect();
        let mut order: Vec<TorrentId> = self.queue_order().into_iter().filter(|id| !moved.contains(id)).collect();
        let at = position.min(order.len());
        order.splice(at..at, chosen);
        self.save_queue(&order, &moved)
    }

    /// The number that puts a new torrent at the end of the queue.
    pub(super) fn end_of_queue(&self) -> i64 {
        let last = self.torrents.values().map(|torrent| torrent.record.queue_number).max();
        last.map_or(0, |last| last.saturating_add(QUEUE_STEP))
    }

    /// Updates the positions of the torrents in the queue, and publishes the torrents whose position has changed.
    pub(super) fn update_queue_positions(&mut self) {
        let positions = (0_usize..).zip(self.queue_order()).map(|(position, id)| (id, position));
        let before = std::mem::replace(&mut self.queue_positions, positions.collect());
        let changed = self.queue_positions.iter().filter(|(id, position)| before.get(id) != Some(position));
        let changed: Vec<TorrentId> = changed.map(|(id, _)| *id).collect();
        for id in changed {
            if let Some(torrent) = self.torrents.get_mut(&id) {
                torrent.changed_at = Instant::now();
            }
            self.publish(id);
        }
    }

    /// The torrents in the order of the queue, without those that are being removed.
    fn queue_order(&self) -> Vec<TorrentId> {
        let shown = self.torrents.iter().filter(|(_, torrent)| torrent.record.removal.is_none());
        let mut order: Vec<(i64, TorrentId)> = shown.map(|(id, torrent)| (torrent.record.queue_number, *id)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, id)| id).collect()
    }

    /// Gives the moved torrents numbers between those of their new neighbours, so that only they have to be saved.
    fn save_queue(&mut self, order: &[TorrentId], moved: &BTreeSet<TorrentId>) -> Result<(), ControlError> {
        let numbers: Vec<(TorrentId, Option<i64>)> = order
            .iter()
            .map(|id| (*id, self.torrents.get(id).filter(|_| !moved.contains(id)).map(|it| it.record.queue_number)))
            .collect();
        let renumbered = |(id, number): (TorrentId, i64)| {
            let record = &self.torrents.get(&id)?.record;
            (record.queue_number != number).then(|| TorrentRecord { queue_number: number, ..record.clone() })
        };
        let records = queue_numbers(&numbers).into_iter().filter_map(renumbered).collect();
        let saved = self.save_changed_records(records);
        self.update_queue_positions();
        saved
    }
}

/// Numbers for a queue in this order: torrents without one get numbers between those of their neighbours. If there is no room, all
/// get new ones.
fn queue_numbers(order: &[(TorrentId, Option<i64>)]) -> Vec<(TorrentId, i64)> {
    let mut numbers: Vec<(TorrentId, i64)> = Vec::with_capacity(order.len());
    let mut at = 0;
    while let Some((id, number)) = order.get(at) {
        if let Some(number) = number {
            numbers.push((*id, *number));
            at += 1;
            continue;
        }
        let count = order.iter().skip(at).take_while(|(_, number)| number.is_none()).count();
        let parts = i64::try_from(count).unwrap_or(i64::MAX).saturating_add(1);
        let span = QUEUE_STEP.saturating_mul(parts);
        let next = order.get(at + count).and_then(|(_, number)| *number);
        let before = numbers.last().map(|(_, number)| *number);
        let before = before.unwrap_or_else(|| next.map_or(0, |next| next.saturating_sub(span)));
        let step = next.unwrap_or_else(|| before.saturating_add(span)).saturating_sub(before) / parts;
        if step < 1 {
            return (0_i64..).zip(order).map(|(number, (id, _))| (*id, number.saturating_mul(QUEUE_STEP))).collect();
        }
        let between = (1_i64..).zip(order.iter().skip(at).take(count));
        numbers.extend(between.map(|(number, (id, _))| (*id, before.saturating_add(step.saturating_mul(number)))));
        at += count;
    }
    numbers
}

/// Moves each of `moved` one place towards the start, unless only others of them are before it.
fn step_towards_start(order: &mut [TorrentId], moved: &BTreeSet<TorrentId>) {
    for at in 1..order.len() {
        let [before, here] = [at - 1, at].map(|at| order.get(at).is_some_and(|id| moved.contains(id)));
        if here && !before {
            order.swap(at - 1, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(of: &[Option<i64>]) -> Vec<i64> {
        let order: Vec<_> = (1_u32..).map(TorrentId).zip(of.iter().copied()).collect();
        queue_numbers(&order).into_iter().map(|(_, number)| number).collect()
    }

    #[test]
    fn a_moved_torrent_gets_a_number_between_its_neighbours() {
        assert_eq!(numbers(&[Some(0), None, Some(1024)]), [0, 512, 1024]);
        assert_eq!(numbers(&[None, None, Some(0)]), [-2048, -1024, 0]);
        assert_eq!(numbers(&[Some(5), None]), [5, 1029]);
        assert_eq!(numbers(&[None]), [1024]);
        assert_eq!(numbers(&[Some(0), None, Some(1), Some(2)]), [0, 1024, 2048, 3072], "all are numbered again");
        assert_eq!(numbers(&[]), [0_i64; 0]);
    }

    #[test]
    fn a_step_moves_all_that_were_chosen() {
        let mut order = [1, 2, 3, 4].map(TorrentId);
        step_towards_start(&mut order, &[TorrentId(3), TorrentId(4)].into());
        assert_eq!(order, [1, 3, 4, 2].map(TorrentId));
        step_towards_start(&mut order, &[TorrentId(1), TorrentId(3)].into());
        assert_eq!(order, [1, 3, 4, 2].map(TorrentId), "there is no room before them");
    }
}
