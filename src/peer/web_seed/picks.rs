//! What a web seed picks, and until when it has to deliver that.

use std::time::Duration;

use crate::peer::TorrentContext;
use crate::peer::roster::refill_idle_peers;
use crate::peer::web_seed::WebSeedWorker;
use crate::strategy::picker::{PickContext, Speed};
use crate::strategy::pipeline::EndGameLimit;
use crate::strategy::rate_limiter::Direction;
use crate::strategy::web_seed::pick_size;
use crate::types::{BLOCK_SIZE, BlockInfo};

/// How often a late web seed checks whether other sources were asked for its blocks.
const LATE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A web seed that delivers a piece within this many seconds is fast.
const FAST_PIECE_SECONDS: u64 = 20;
/// Near the end, a request has at least what the server sends in so many round trips, so that most of the time it sends.
const ROUND_TRIPS: f64 = 2.0;
/// The bounds of that, in blocks: what peers send in the meantime cannot be taken out of a request.
const MIN_BLOCKS_AT_END: usize = 4;
const MAX_BLOCKS_AT_END: usize = 256;

impl WebSeedWorker {
    /// Picks the blocks of the next requests. Also returns when to pick again.
    pub(super) fn pick(&mut self, context: &TorrentContext) -> (Vec<BlockInfo>, Option<Duration>) {
        let (now, mut picked) = (context.now(), Vec::new());
        let n = if self.sends_whole_files {
            1
        } else {
            pick_size(self.rate, context.settings.throttle.fair_share(Direction::Down), self.largest_pick)
        };
        let round_trip = self.answer_time.unwrap_or_default().as_secs_f64();
        let least = (self.rate as f64 * round_trip * ROUND_TRIPS / f64::from(BLOCK_SIZE)) as usize;
        let least = least.clamp(MIN_BLOCKS_AT_END, MAX_BLOCKS_AT_END);
        let limit = EndGameLimit { outstanding: 0, least, is_proven: self.rate > 0 };
        let share = context.share_of_rate(self.rate, now);
        context.web_seeds.forget_cancels(self.key);
        let again = context.pieces.pick(self.key, n, self.pick_context(context), limit, share, &mut picked);
        self.largest_pick = self.largest_pick.max(picked.len());
        self.begin_deadline(context);
        (picked, again)
    }

    /// Notes until when the blocks of a pick have to arrive.
    pub(super) fn begin_deadline(&mut self, context: &TorrentContext) {
        self.deadline = context.pieces.deadline(self.key).unwrap_or(Duration::MAX);
        self.is_late = false;
    }

    /// After the deadline, the blocks are for others, but this web seed goes on until another source is asked for them. Returns
    /// whether it should still receive these.
    pub(super) fn may_continue(&mut self, context: &TorrentContext, blocks: &[BlockInfo]) -> bool {
        let now = context.now();
        if now < self.deadline {
            return true;
        }
        let may_continue = context.pieces.take_back_late(now, self.key, blocks);
        if !std::mem::replace(&mut self.is_late, true) {
            context.web_seeds.set_rate(self.key, 0);
            refill_idle_peers(context);
        }
        self.deadline = now + LATE_CHECK_INTERVAL;
        may_continue
    }

    pub(super) fn pick_context(&self, context: &TorrentContext) -> PickContext {
        let piece_length = u64::from(context.pieces.storage().layout().piece_length());
        let is_slow = self.rate > 0 && self.rate.saturating_mul(FAST_PIECE_SECONDS) < piece_length;
        let per_block = match self.rate {
            0 => Duration::ZERO,
            rate => Duration::from_secs_f64(f64::from(BLOCK_SIZE) / rate as f64),
        };
        PickContext {
            now: context.now(),
            speed: if is_slow { Speed::Slow } else { Speed::Fast },
            answer_time: self.answer_time.filter(|_| self.rate > 0).map(|time| time + per_block),
            per_block,
        }
    }
}
