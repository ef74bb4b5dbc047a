//! From the metadata stage to the download: the connections stay, their threads do not.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::peer::{Gone, Shared};
use crate::strategy::peer_list::Source;
use crate::torrent::events::Event;
use crate::torrent::final_announce;
use crate::torrent::peer_manager::{Contacts, Line};
use crate::torrent::tell;
use crate::types::{PeerKey, count};

/// What threads get to end. One whose peer does not read takes longer, and ends with its connection.
const PATIENCE: Duration = Duration::from_secs(1);
/// Why connections are given up.
const REASON: &str = "the files need the descriptors";

/// The connections that were kept, while files are looked at: each takes a descriptor that a file may need.
#[derive(Default)]
pub struct Spare(Mutex<Lent>);

#[derive(Default)]
struct Lent {
    lines: HashMap<PeerKey, Line>,
    /// The other ends of those that were given up since.
    ended: Vec<SocketAddr>,
}

impl Spare {
    /// Ends some of the connections, as there is no descriptor for a file.
    pub fn give_up(&self) {
        let lines = self.0.lock().lines.len();
        self.keep(lines - lines.div_ceil(4));
    }

    /// Ends connections until there are `most`, the last to come first; how many are left.
    pub fn keep(&self, most: usize) -> usize {
        let mut lent = self.0.lock();
        let mut order: Vec<PeerKey> = lent.lines.keys().copied().collect();
        order.sort_unstable();
        let surplus: Vec<Line> = order.iter().skip(most).filter_map(|key| lent.lines.remove(key)).collect();
        lent.ended.extend(surplus.iter().map(|line| line.connection.addr));
        let stay = lent.lines.len();
        drop(lent);
        if !surplus.is_empty() {
            log::debug!("{} hung up on, as {REASON}; {stay} left", count(surplus.len(), "peer"));
        }
        // Their threads have ended, so that nothing is waited for.
        final_announce::to_peers(surplus.into_iter().map(|line| line.connection).collect());
        stay
    }
}

impl Contacts<'_> {
    /// Lends the connections that were kept to the look at the files, which may end some of them for their descriptors; until
    /// [`Contacts::take_back`].
    pub fn lend(&mut self) {
        self.inner.spare.0.lock().lines = std::mem::take(&mut self.lines);
    }

    /// What is left of those.
    pub(crate) fn take_back(&mut self) {
        let Lent { lines, ended } = std::mem::take(&mut *self.inner.spare.0.lock());
        self.lines.extend(lines);
        if !ended.is_empty() {
            self.book.end_others(|key| self.lines.contains_key(&key));
            for addr in ended {
                tell(&self.events, Event::PeerGone { addr, reason: REASON.to_owned() });
            }
            self.seat.count(self.lines.len());
        }
    }

    /// The metadata is there: ends all threads of connections. Those that have shaken hands are kept for [`Contacts::go_on`]; the
    /// others, and those of which not all could be remembered, end in peace: nobody is noted as lost, and all may be called again
    /// at once, those who called us at the port that they said.
    pub fn park(&mut self, shared: &Arc<Shared>) {
        self.hold_callers(true); // nothing reads their connections meanwhile
        let peers = shared.roster.all();
        let met: HashSet<PeerKey> = peers.iter().map(|peer| peer.key).collect();
        shared.park();
        self.lines.iter().filter(|(key, _)| !met.contains(key)).for_each(|(_, line)| line.connection.close());
        let deadline = Instant::now() + PATIENCE;
        let is_busy = |(key, line): (&PeerKey, &Line)| met.contains(key) && !line.connection.is_finished();
        while self.lines.iter().any(is_busy) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        let over: HashMap<_, _> = self.lines.extract_if(|_, line| !line.connection.is_kept()).collect();
        self.book.end_others(|key| self.lines.contains_key(&key));
        let callers = peers.iter().filter(|peer| peer.incoming && over.contains_key(&peer.key));
        self.book.add(&callers.filter_map(|peer| peer.callable_at()).collect::<Vec<_>>(), Source::Neighbour);
        self.end_lines(over);
        // Their news may not have been heard yet.
        for peer in &peers {
            self.ready(shared, peer.key, peer.addr, peer.incoming);
        }
        self.lines.values_mut().for_each(|line| line.peer = None);
        self.next_call = Duration::ZERO;
    }

    /// Ends the connections that were kept.
    pub(crate) fn drop_kept(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        self.book.end_others(|_| false);
        self.end_lines(lines);
    }

    fn end_lines(&mut self, lines: HashMap<PeerKey, Line>) {
        self.tell_gone(lines.values(), "the metadata is there, the download connects again");
        final_announce::to_peers(lines.into_values().map(|line| line.connection).collect());
        self.seat.count(self.lines.len());
    }

    /// The download goes on with the connections that were kept.
    pub fn go_on(&mut self, shared: &Arc<Shared>) {
        self.take_back();
        self.count(shared);
        let begin = |(key, line): (&PeerKey, &mut Line)| {
            let error = line.connection.go_on(shared, *key).err()?;
            Some((*key, line.connection.addr, error))
        };
        let failed: Vec<_> = self.lines.iter_mut().filter_map(begin).collect();
        for (key, addr, error) in failed {
            self.gone(shared, key, addr, &Gone::NoThread(crate::util::os_error::reason(&error)));
        }
    }
}
