//! From the metadata stage to the download: the connections stay, their threads do not.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Contacts, Line};
use crate::peer::{Gone, Shared};
use crate::session::book::Source;
use crate::session::goodbye;
use crate::types::PeerKey;

/// What threads get to end. One whose peer does not read takes longer, and ends with its connection.
const PATIENCE: Duration = Duration::from_secs(1);

impl Contacts<'_> {
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
    pub(super) fn drop_kept(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        self.book.end_others(|_| false);
        self.end_lines(lines);
    }

    fn end_lines(&mut self, lines: HashMap<PeerKey, Line>) {
        self.tell_gone(lines.values(), "the metadata is there, the download connects again");
        goodbye::to_peers(lines.into_values().map(|line| line.connection).collect());
        self.seat.count(self.lines.len());
    }

    /// The download goes on with the connections that were kept.
    pub fn go_on(&mut self, shared: &Arc<Shared>) {
        self.count(shared);
        let begin = |(key, line): (&PeerKey, &mut Line)| {
            let error = line.connection.go_on(shared, *key).err()?;
            Some((*key, line.connection.addr, error))
        };
        let failed: Vec<_> = self.lines.iter_mut().filter_map(begin).collect();
        for (key, addr, error) in failed {
            self.gone(shared, key, addr, &Gone::NoThread(crate::reason::reason(&error)));
        }
    }
}
