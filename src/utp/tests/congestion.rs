//! uTP uses a free path, gives way to TCP, and keeps queues short.

use super::competitor::Competitor;
use super::world::World;
use crate::utp::UtpConfig;

const MS: u64 = 1_000;
const SECOND: u64 = 1_000_000;
/// 20 Mbit/s in bytes a second.
const RATE: u64 = 2_500_000;

/// A world with a bottleneck whose queue holds this many milliseconds, and that round trip time.
fn bottleneck(round_trip: u64, queue_ms: u64) -> World {
    let mut world = World::new(round_trip / 2, &UtpConfig::new(false));
    (world.links[0].rate, world.links[0].queue) = (RATE, RATE * queue_ms / 1000);
    world
}

/// The bytes per second that uTP carries from `from` to `until`, which are seconds.
fn throughput(world: &mut World, from: u64, until: u64) -> f64 {
    world.run_until(from * SECOND);
    let before = world.read(1);
    world.links[0].waits.clear();
    world.run_until(until * SECOND);
    (world.read(1) - before) as f64 / (until - from) as f64
}

/// The parts of the bottleneck that uTP and a competing TCP get, in percent. One of them comes first.
fn share(world: &mut World, is_cubic: bool, is_tcp_first: bool) -> (f64, f64) {
    world.competitor = Some(Competitor::new(is_cubic, if is_tcp_first { 0 } else { 20 * SECOND }));
    if is_tcp_first {
        world.run_until(10 * SECOND);
    }
    world.connect(1 << 40);
    world.run_until(30 * SECOND);
    let delivered = |world: &World| world.competitor.as_ref().map_or(0, |tcp| tcp.delivered);
    let before = delivered(world);
    let rate = throughput(world, 30, 90);
    let tcp = (delivered(world) - before) as f64 * 1472.0 / 60.0;
    (rate / RATE as f64 * 100.0, tcp / RATE as f64 * 100.0)
}

#[test]
fn a_path_without_competition_is_used_and_its_queue_stays_short() {
    let mut world = bottleneck(50 * MS, 500);
    world.connect(1 << 40);
    let rate = throughput(&mut world, 10, 60);
    assert!(rate > 0.94 * RATE as f64, "{rate}");
    let wait = world.links[0].wait_at(1000);
    assert!(wait < 80 * MS, "{wait}");
}

#[test]
fn losses_without_a_queue_cost_little() {
    let mut world = World::new(50 * MS, &UtpConfig::new(false));
    (world.links[0].loss, world.links[1].loss) = (10, 10);
    world.connect(1 << 40);
    let packets = throughput(&mut world, 10, 70) / 1452.0 / 10.0;
    // libtorrent gains 3000 bytes in a round trip and halves its window: 17.6 packets.
    assert!(packets > 18.0, "{packets} in a round trip");
}

#[test]
fn clocks_that_drift_apart_are_no_queue() {
    for drift in [-100, 100] {
        let mut world = bottleneck(50 * MS, 500);
        // Parts per million, more than clocks of computers differ.
        (world.sides[0].clock, world.sides[1].clock, world.sides[1].drift) = (1 << 40, 1 << 40, drift);
        world.connect(1 << 40);
        let rate = throughput(&mut world, 10, 300);
        assert!(rate > 0.85 * RATE as f64, "{drift}: {rate}");
        let wait = world.links[0].wait_at(1000);
        assert!(wait < 110 * MS, "{drift}: {wait}");
    }
}

#[test]
fn tcp_gets_nearly_everything() {
    for (round_trip, queue, is_cubic, is_tcp_first) in
        [(50, 200, false, true), (50, 100, true, true), (20, 50, false, false), (50, 500, true, false)]
    {
        let mut world = bottleneck(round_trip * MS, queue);
        let (utp, tcp) = share(&mut world, is_cubic, is_tcp_first);
        assert!(utp < 8.0 && tcp > 88.0, "{round_trip} ms, queue {queue} ms, CUBIC {is_cubic}: {utp} and {tcp} %");
    }
}

/// Many cases, for whoever changes the constants: `cargo test --lib utp::tests::congestion -- --ignored --nocapture`.
#[test]
#[ignore = "prints figures, and takes a minute"]
fn figures() {
    for (round_trip, loss, jitter, wobble) in [
        (100, 10, 0, 0),
        (100, 10, 2, 0),
        (100, 10, 5, 0),
        (100, 10, 10, 0),
        (100, 10, 0, 2),
        (100, 10, 0, 5),
        (100, 10, 0, 10),
        (100, 0, 0, 0),
        (100, 2, 0, 0),
        (200, 10, 0, 0),
        (30, 10, 0, 0),
        (100, 50, 0, 0),
    ] {
        let mut world = World::new(round_trip / 2 * MS, &UtpConfig::new(false));
        for link in &mut world.links {
            (link.loss, link.jitter, link.wobble) = (loss, jitter * MS, wobble * MS);
        }
        world.connect(1 << 40);
        let rate = throughput(&mut world, 10, 70);
        println!(
            "{round_trip} ms, jitter {jitter} ms, wobble {wobble} ms, loss {loss} per mille: {:.0} KB/s, {:.1} packets in a round trip",
            rate / 1e3,
            rate * round_trip as f64 / 1e3 / 1452.0
        );
    }
    for (round_trip, queue) in [(20, 100), (20, 300), (50, 50), (50, 200), (100, 100), (100, 300), (200, 200)] {
        let mut world = bottleneck(round_trip * MS, queue);
        world.connect(1 << 40);
        world.run_until(10 * SECOND);
        let start = world.links[0].wait_at(1000) / 1000;
        let rate = throughput(&mut world, 10, 70);
        println!(
            "{round_trip} ms, queue {queue} ms, alone: {:.1} % of the rate, wait median {} ms, 99 % {} ms, max {}, first {start}, dropped {}",
            rate / RATE as f64 * 100.0,
            world.links[0].wait_at(500) / 1000,
            world.links[0].wait_at(990) / 1000,
            world.links[0].wait_at(1000) / 1000,
            world.links[0].dropped
        );
    }
    for (is_tcp_first, is_cubic) in [(true, false), (true, true), (false, false), (false, true)] {
        for (round_trip, queue) in
            [(20, 50), (20, 100), (20, 300), (50, 50), (50, 100), (50, 200), (50, 500), (100, 100), (100, 300)]
        {
            let mut world = bottleneck(round_trip * MS, queue);
            let (utp, tcp) = share(&mut world, is_cubic, is_tcp_first);
            println!(
                "{round_trip} ms, queue {queue} ms, CUBIC {is_cubic}, first {is_tcp_first}: uTP {utp:.1} %, TCP {tcp:.1} %, wait median {} ms",
                world.links[0].wait_at(500) / 1000,
            );
        }
    }
}
