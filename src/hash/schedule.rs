//! Decides which streams are hashed together.

use crate::hash::kernels::Kernels;
use crate::hash::{Lane, SHA1_BLOCK};

/// The blocks of a lane's turn: 4 KiB, so that the cost of sorting the lanes does not matter.
const TURN: usize = 4096 / SHA1_BLOCK;

/// Hashes the blocks of all lanes with the fastest of these kernels.
///
/// The longest lanes go first. Where more lanes wait than fit together, they take turns, so that all become short at the same
/// time, and few blocks remain that must be hashed alone.
pub fn compress_lanes(kernels: &Kernels, lanes: &mut [Lane<'_>]) {
    let mut active = lanes.len();
    loop {
        lanes[..active].sort_unstable_by_key(|lane| std::cmp::Reverse(lane.blocks.len()));
        active = lanes[..active].partition_point(|lane| !lane.blocks.is_empty());
        if active == 0 {
            return;
        }
        let kernel = kernels.best_for(active);
        let together = kernel.width().min(active);
        let shortest = lanes[together - 1].blocks.len();
        let count = lanes[..active].get(together).map_or(shortest, |next| {
            let lead = shortest - next.blocks.len();
            shortest.min(lead + TURN)
        });
        kernel.compress(&mut lanes[..together], count);
    }
}
