use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// A writer that blocks until the test releases it, and records what is written.
struct GatedWriter {
    may: Receiver<NoMessages>,
    read: Arc<Mutex<String>>,
}

impl Write for GatedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.may.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.read.lock().push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn output_queue(max_bytes: usize) -> (OutputQueue, Option<Sender<NoMessages>>, Arc<Mutex<String>>) {
    let ((hold, may), read) = (bounded(0), Arc::<Mutex<String>>::default());
    let reader = GatedWriter { may, read: read.clone() };
    (OutputQueue::new(Box::new(reader), max_bytes, |lost| format!("lost {lost}\n")), Some(hold), read)
}

#[test]
fn texts_that_a_stopped_reader_misses_are_counted_once() {
    let (output_queue, hold, read) = output_queue(1000);
    let taken = (0..100_000).filter(|_| output_queue.push("ten bytes\n")).count();
    assert!((100..=101).contains(&taken), "{taken} waited");
    output_queue.push_always("the end\n");
    drop(hold);
    output_queue.finish(&StopSignal::default());
    let read = read.lock();
    let lost: Vec<_> = read.lines().filter(|line| line.starts_with("lost")).collect();
    assert_eq!(lost, [format!("lost {}", 100_000 - taken)], "{read}");
    assert_eq!(read.lines().filter(|line| *line == "ten bytes").count(), taken);
    assert!(read.ends_with("the end\n"));
}

#[test]
fn a_reader_that_goes_on_is_told_before_it_hears_more() {
    let (output_queue, hold, read) = output_queue(100);
    while output_queue.push("ten bytes\n") {}
    output_queue.count_dropped(6);
    drop(hold);
    let deadline = Instant::now() + PATIENCE;
    while !output_queue.push("again\n") {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(1));
    }
    output_queue.finish(&StopSignal::default());
    let read = read.lock().clone();
    let (before, after) = read.split_once("lost ").expect("a notice");
    assert!(before.starts_with("ten bytes\n") && after.ends_with("\nagain\n"), "{read}");
    assert_eq!(read.matches("lost").count(), 1);
}

#[test]
fn the_end_of_the_process_waits_for_a_reader_but_not_after_a_signal() {
    let (output_queue, hold, _) = output_queue(1000);
    assert!(output_queue.push("x\n"));
    let stop = StopSignal::default();
    let (ours, signal) = (output_queue.clone(), stop.clone());
    let waiter = thread::spawn(move || ours.finish(&signal));
    stop.set();
    waiter.join().expect("no panic");
    drop(hold);
}

#[test]
fn a_reader_that_is_gone_costs_nothing() {
    struct BrokenWriter;
    impl Write for BrokenWriter {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let output_queue = OutputQueue::new(Box::new(BrokenWriter), 10, |_| String::new());
    let (failure_sender, failures) = bounded(2);
    let again = failure_sender.clone();
    output_queue.on_failure(move || _ = failure_sender.send("then"));
    output_queue.push_always("0123456789");
    output_queue.finish(&StopSignal::default());
    assert_eq!(failures.recv_timeout(PATIENCE), Ok("then"));
    assert_eq!(output_queue.failure().map(io::Error::kind), Some(io::ErrorKind::BrokenPipe));
    output_queue.on_failure(move || _ = again.send("at once"));
    assert_eq!(failures.try_recv(), Ok("at once"));
    (0..1000).for_each(|_| assert!(output_queue.push("0123456789"), "nothing is kept, and nothing lost"));
    output_queue.finish(&StopSignal::default());
}
