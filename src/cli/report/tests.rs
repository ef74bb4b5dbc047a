//! The text of events, and the loop that feeds reporters.

use super::*;

fn failed(tracker: &str, reason: &str) -> Event {
    let retry = Some(Duration::from_secs(30));
    Event::AnnounceFailed { tracker: tracker.to_owned(), error: TrackerError::Other(reason.to_owned()), retry }
}

#[test]
fn the_same_complaint_is_told_once_until_it_changes() {
    let mut words = EventText::default();
    assert_eq!(words.line(&failed("http://t/", "down")).as_deref(), Some("tracker http://t/: down; next try in 30s"));
    assert_eq!(words.line(&failed("http://t/", "down")), None);
    assert!(words.line(&failed("http://u/", "down")).is_some());
    assert!(words.line(&failed("http://t/", "busy")).is_some());
    let (interval, warning) = (Duration::from_secs(60), None);
    let well = Event::Announced { tracker: "http://t/".to_owned(), peers: 3, interval, warning };
    assert_eq!(words.line(&well), None);
    assert!(words.line(&failed("http://t/", "busy")).is_some());
}

#[test]
fn a_verbose_reporter_tells_once_that_a_tracker_answers() {
    let mut words = EventText::verbose();
    let (interval, warning) = (Duration::from_secs(60), None);
    let well = Event::Announced { tracker: "http://t/".to_owned(), peers: 3, interval, warning };
    assert_eq!(words.line(&well).as_deref(), Some("tracker http://t/ returned 3 peers"));
    assert_eq!(words.line(&well), None);
    assert!(words.line(&failed("http://t/", "busy")).is_some());
    assert!(words.line(&well).is_some());
    assert_eq!(EventText::default().line(&well), None);
}

#[test]
fn a_stranger_can_neither_steer_the_terminal_nor_flood_it() {
    let line = EventText::default().line(&failed("http://t/", &"\x1b[2J".repeat(1000))).unwrap_or_default();
    assert!(!line.is_empty() && !line.contains('\x1b') && line.chars().count() < 500);
}

#[test]
fn a_banned_peer_is_named() {
    let event = Event::PeerBanned { addr: ([192, 0, 2, 7], 6881).into(), piece: btsync::PieceIndex(5) };
    assert_eq!(EventText::default().line(&event).as_deref(), Some("192.0.2.7:6881 sent wrong data (piece 5): banned"));
}

#[derive(Default)]
struct RecordingReporter(Vec<String>);

impl Reporter for RecordingReporter {
    fn period(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn event(&mut self, _: Duration, event: &Event) {
        self.0.push(format!("{event:?}"));
    }

    fn refresh(&mut self, _: Duration) {}

    fn finish(&mut self, _: Duration, final_status: FinalStatus) {
        self.0.push(format!("{final_status:?}"));
    }
}

#[test]
fn several_reporters_keep_their_own_pace() {
    struct Counter(Duration, std::sync::Arc<std::sync::atomic::AtomicU32>);
    impl Reporter for Counter {
        fn period(&self) -> Duration {
            self.0
        }
        fn event(&mut self, _: Duration, _: &Event) {}
        fn refresh(&mut self, _: Duration) {
            self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        fn finish(&mut self, _: Duration, _: FinalStatus) {}
    }
    let counts: [std::sync::Arc<std::sync::atomic::AtomicU32>; 2] = Default::default();
    let periods = [Duration::from_millis(250), Duration::from_secs(5)];
    let reporter = |n: usize| Box::new(Counter(periods[n], counts[n].clone())) as Box<dyn Reporter>;
    let mut reporters = Reporters::new(vec![reporter(0), reporter(1)]);
    assert_eq!(reporters.period(), periods[0]);
    (1..=80).for_each(|n| reporters.refresh(periods[0] * n));
    let beats = counts.map(|count| count.load(std::sync::atomic::Ordering::Relaxed));
    assert_eq!(beats, [80, 4]);
    assert!(Reporters::new(Vec::new()).period() > Duration::from_secs(60));
}

#[test]
fn every_event_is_heard_before_the_end() {
    let (event_sender, events) = crossbeam_channel::unbounded();
    let (end, ended) = crossbeam_channel::bounded(1);
    event_sender.send(Event::Completed).unwrap();
    event_sender.send(Event::Stopping).unwrap();
    end.send(FinalStatus::Complete).unwrap();
    let mut recorder = RecordingReporter::default();
    run_event_loop(Instant::now(), &mut recorder, &never(), || events.try_iter(), &ended);
    assert_eq!(recorder.0, ["Completed", "Stopping", "Complete"]);
}

#[test]
fn a_torrent_that_vanishes_ends_its_reporters() {
    let (event_sender, events) = crossbeam_channel::unbounded::<Event>();
    let (end, ended) = crossbeam_channel::bounded(1);
    drop((event_sender, end));
    let mut recorder = RecordingReporter::default();
    run_event_loop(Instant::now(), &mut recorder, &never(), || events.try_iter(), &ended);
    assert_eq!(recorder.0, ["Failed"]);
}
