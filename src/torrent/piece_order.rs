//! The order in which a program wants the pieces of a torrent. Pure.

use crate::storage::Layout;
use crate::strategy::picker::PiecePriorities;
use crate::types::{Bitfield, PieceIndex};

/// Which files to download before others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FilePriority {
    /// After all others.
    Low,
    /// Before those of low priority.
    #[default]
    Normal,
    /// Before all others.
    High,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(crate) struct OrderSettings {
    /// Whether pieces of the same priority are downloaded in ascending order.
    pub is_sequential: bool,
    /// Files by index, counting padding; all others have the normal priority.
    pub priorities: Vec<(u32, FilePriority)>,
}

impl OrderSettings {
    /// The priorities of pieces; `None` if all are the same. A piece has that of its file with the highest one. `is_wanted` says
    /// which files count.
    pub fn piece_priorities(&self, layout: &Layout, is_wanted: impl Fn(usize) -> bool) -> Option<PiecePriorities> {
        let mut by_file = vec![FilePriority::Normal; layout.files().len()];
        for (file, priority) in &self.priorities {
            if let Some(place) = by_file.get_mut(*file as usize) {
                *place = *priority;
            }
        }
        let none = || Bitfield::new(layout.piece_count());
        let mut bits = [none(), none(), none()];
        for (file, priority) in by_file.iter().enumerate() {
            if is_wanted(file) && !layout.files().get(file).is_none_or(|spec| spec.is_pad) {
                layout.pieces_of(file).for_each(|piece| _ = bits[*priority as usize].set(PieceIndex(piece)));
            }
        }
        let [low, normal, high] = bits;
        let (low, normal) = (low.difference(&normal).difference(&high), normal.difference(&high));
        let differ = [&low, &normal, &high].into_iter().filter(|bits| bits.count() > 0).count() > 1;
        differ.then_some(PiecePriorities { high, low })
    }
}

#[cfg(test)]
mod tests {
    use FilePriority::{High, Low, Normal};

    use super::*;
    use crate::storage::FileSpec;

    #[test]
    fn a_piece_has_the_highest_priority_of_its_wanted_files() {
        let file = |name: &str, length| FileSpec { path: name.into(), length, is_pad: name.starts_with('.') };
        // Pieces of 16 bytes: a in 0 and 1, b in 1 to 3, c in 3 and 4, d in 5.
        let files = vec![file("a", 24), file("b", 30), file("c", 20), file(".pad", 6), file("empty", 0), file("d", 10)];
        let layout = Layout::new(16, files).expect("a layout");
        let of = |priorities: &[(u32, FilePriority)], unwanted: usize| {
            let settings = OrderSettings { is_sequential: false, priorities: priorities.to_vec() };
            settings.piece_priorities(&layout, |file| file != unwanted).map(|PiecePriorities { high, low }| {
                let pieces = |bits: &Bitfield| bits.iter().map(|piece| piece.0).collect::<Vec<_>>();
                (pieces(&high), pieces(&low))
            })
        };
        assert_eq!(of(&[], 99), None);
        assert_eq!(of(&[(0, Normal), (77, High)], 99), None, "there is no such file");
        assert_eq!(of(&[(1, High)], 99), Some((vec![1, 2, 3], vec![])));
        assert_eq!(of(&[(1, Low)], 99), Some((vec![], vec![2])), "1 and 3 have bytes of normal files");
        assert_eq!(of(&[(1, Low), (0, High)], 99), Some((vec![0, 1], vec![2])));
        assert_eq!(of(&[(1, High)], 1), None, "it is not wanted");
        assert_eq!(of(&[(1, Low), (0, High), (1, Normal)], 99), Some((vec![0, 1], vec![])), "the last one counts");
        let all: Vec<_> = (0..6).map(|file| (file, High)).collect();
        assert_eq!(of(&all, 99), None, "all are the same");
    }
}
