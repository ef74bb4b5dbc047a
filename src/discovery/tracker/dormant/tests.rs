//! The threads: as many as are needed, and none without work.

use std::net::TcpListener;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::*;
use crate::util::atomics::Flag;

const PATIENCE: Duration = Duration::from_secs(60);

/// A client whose torrents all run, or none of them.
struct FakeClient {
    all_run: Arc<Flag>,
    in_dht: Sender<InfoHash>,
}

impl DormantClient for FakeClient {
    fn is_running(&self, _: InfoHash) -> bool {
        self.all_run.is_set()
    }

    fn port(&self) -> Option<u16> {
        Some(6881)
    }

    fn announce_in_dht(&self, info_hash: InfoHash) {
        let _ = self.in_dht.send(info_hash);
    }

    fn has_had_public_peer(&self) -> bool {
        true
    }

    fn found_leechers(&self, _: InfoHash, _: &[SocketAddr]) {}
}

fn pool() -> (DormantPool, Arc<Flag>, Receiver<InfoHash>) {
    let (all_run, (in_dht, announced)) = (Arc::new(Flag::default()), bounded(16));
    let client = FakeClient { all_run: all_run.clone(), in_dht };
    (DormantPool::new(crate::net::route::Route::default(), Box::new(client)), all_run, announced)
}

fn torrent(n: u8, is_private: bool) -> DormantAnnounce {
    let identity = TorrentIdentity::generate(None);
    DormantAnnounce {
        info_hash: InfoHash([n; 20]),
        identity,
        payload: AnnouncedPayload::default(),
        left: 0,
        is_private,
        user_agent: None,
    }
}

fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn torrents_are_announced_in_the_dht_unless_they_are_private_or_run() {
    let (pool, all_run, announced) = pool();
    let private = pool.add(torrent(1, true), &[], true, None);
    let without = pool.add(torrent(2, false), &[], false, None);
    assert_eq!(pool.reannounce(without), None, "it has no tracker");
    let wanted = pool.add(torrent(3, false), &[], true, None);
    assert_eq!(announced.recv_timeout(PATIENCE), Ok(InfoHash([3; 20])));
    all_run.set(true);
    let runs = pool.add(torrent(4, false), &[], true, None);
    until("it is looked at", || pool.shared.state.lock().dht.next_due() > Some(Duration::from_secs(30)));
    assert!(announced.is_empty());
    for id in [private, without, wanted, runs] {
        pool.remove(id, true);
    }
    until("no thread is left", || pool.shared.state.lock().running == 0);
    pool.add(torrent(5, false), &[], true, None);
    until("a new thread looks at it", || pool.shared.state.lock().running > 0);
}

#[test]
fn a_silent_tracker_holds_two_threads_and_the_end_does_not_wait_for_it() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/announce", silent.local_addr().expect("an address"));
    let (pool, _, announced) = pool();
    let tiers = [vec![DormantTracker { url: url.into(), is_trusted: false }]];
    let ids: Vec<DormantId> = (0..50).map(|n| pool.add(torrent(n, false), &tiers, false, None)).collect();
    let connections = [silent.accept(), silent.accept()];
    assert!(connections.iter().all(Result::is_ok));
    pool.add(torrent(100, false), &[], true, None);
    assert_eq!(announced.recv_timeout(PATIENCE), Ok(InfoHash([100; 20])), "another thread has time");
    let announcing = ids.iter().filter(|id| pool.tracker_status(**id).0[0].is_announcing).count();
    assert_eq!(announcing, 2, "two announces to a host at a time");
    assert!(pool.shared.state.lock().running <= MAX_THREADS);
    drop(pool);
}
