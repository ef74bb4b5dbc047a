//! Every byte arrives in order, whatever the network does.

use super::world::World;
use crate::utp::{UtpCloseReason, UtpConfig};

const MS: u64 = 1_000;

/// Sends bytes both ways, until both sides have everything and know that.
fn exchange(world: &mut World, there: u64, back: u64) -> u64 {
    world.sides[1].answer = back;
    world.connect(there);
    let time = world.run_while(|world| {
        let is_removable = world.sides[1].incoming == 1 && world.is_finished(0) && world.is_finished(1);
        !is_removable
    });
    assert_eq!((world.read(1), world.read(0)), (there, back));
    time
}

#[test]
fn megabytes_arrive_in_order_and_both_ends_finish() {
    let mut world = World::new(5 * MS, &UtpConfig::new(false));
    let time = exchange(&mut world, 8 << 20, 3 << 20);
    assert!(time < 2_000 * MS, "{time}");
    let lost: u64 = world.links.iter().map(|link| link.dropped).sum();
    assert_eq!(lost, 0);
}

#[test]
fn loss_reordering_and_duplication_do_no_harm() {
    let mut world = World::new(20 * MS, &UtpConfig::new(false));
    for link in &mut world.links {
        (link.loss, link.duplication, link.jitter) = (200, 50, 30 * MS);
    }
    exchange(&mut world, 300_000, 200_000);
}

#[test]
fn a_long_way_with_loss_is_only_slow() {
    let mut world = World::new(250 * MS, &UtpConfig::new(false));
    for link in &mut world.links {
        (link.loss, link.jitter) = (50, 20 * MS);
    }
    exchange(&mut world, 400_000, 0);
}

#[test]
fn all_counters_wrap_around() {
    let mut config = UtpConfig::new(false);
    (config.base_datagram, config.max_datagram) = (150, 150);
    let mut world = World::new(2 * MS, &config);
    // The clocks' lower 32 bits are at their end, and differ.
    (world.sides[0].clock, world.sides[1].clock) = ((1 << 32) - 500_000, (7 << 32) - 1);
    world.links[0].loss = 2;
    // More than 65,536 packets.
    exchange(&mut world, 9 << 20, 1 << 20);
    assert!(world.sides[0].sent_packets > 70_000);
}

#[test]
fn an_empty_stream_ends_too() {
    let mut world = World::new(MS, &UtpConfig::new(false));
    exchange(&mut world, 0, 0);
    let mut world = World::new(MS, &UtpConfig::new(false));
    exchange(&mut world, 0, 50_000);
}

#[test]
fn a_reader_that_sleeps_stops_the_writer_and_loses_nothing() {
    let mut world = World::new(20 * MS, &UtpConfig::new(false));
    world.links[1].loss = 100;
    world.connect(5 << 20);
    world.run_while(|world| world.sides[1].incoming == 0);
    world.sides[1].users.values_mut().for_each(|user| user.is_asleep = true);
    let read = world.read(1);
    world.run_until(120_000 * MS);
    let user = world.sides[1].users.values().next().expect("a user");
    assert_eq!((user.read, user.closed), (read, None));
    let packets = world.sides[0].sent_packets;
    world.run_until(240_000 * MS);
    assert!(world.sides[0].sent_packets - packets < 30, "asks now and then whether there is space");
    world.sides[1].users.values_mut().for_each(|user| user.is_asleep = false);
    let time = world.run_while(|world| world.read(1) < 5 << 20);
    assert!(time < 40_000 * MS, "{time}");
}

#[test]
fn half_closed_streams_still_carry_data() {
    let mut world = World::new(20 * MS, &UtpConfig::new(false));
    world.sides[1].answer = 2 << 20;
    world.connect(10);
    world.run_while(|world| world.sides[1].users.values().all(|user| !user.is_finished));
    let user = world.sides[1].users.values().next().expect("a user");
    assert!(user.written < 2 << 20, "our end comes before the peer's data");
    world.run_while(|world| world.read(0) < 2 << 20);
}

#[test]
fn the_largest_datagram_of_the_path_is_found_without_harm() {
    for (largest, path, expected) in
        [(1472, 1472, 1472), (1472, 1400, 1385), (65_507, 65_507, 65_507), (65_507, 1472, 1472)]
    {
        let mut config = UtpConfig::new(false);
        config.max_datagram = largest;
        let mut world = World::new(5 * MS, &config);
        world.links[0].mtu = path;
        let key = world.connect(6 << 20);
        world.run_while(|world| world.read(1) < 6 << 20);
        let connection = world.sides[0].endpoint.connection(key).expect("still there");
        assert!((expected..=path).contains(&connection.datagram()), "{largest}, {path}: {}", connection.datagram());
        assert!(world.now < 2_000 * MS, "{largest}, {path}: {}", world.now);
    }
}

#[test]
fn a_lost_last_packet_is_sent_again_before_the_timeout() {
    for (round_trip, longest) in [(20, 200), (100, 400)] {
        let mut world = World::new(round_trip / 2 * MS, &UtpConfig::new(false));
        let key = world.connect(1 << 20);
        world.sides[0].user(key).is_finishing = false;
        world.run_while(|world| world.read(1) < 1 << 20);
        world.run_until(world.now + 1_000 * MS);
        world.links[0].loss = 1000;
        world.sides[0].user(key).to_write += 100;
        world.pump();
        world.links[0].loss = 0;
        let took = world.run_while(|world| world.read(1) < (1 << 20) + 100);
        assert!(took <= longest * MS, "{round_trip} ms: {took}");
    }
}

/// Messages of a few bytes, one at a time, as requests of blocks are.
#[test]
#[ignore = "prints figures"]
fn figures_of_single_messages() {
    for (round_trip, loss) in [(20, 10), (100, 10), (100, 50)] {
        let mut world = World::new(round_trip / 2 * MS, &UtpConfig::new(false));
        for link in &mut world.links {
            link.loss = loss;
        }
        let key = world.connect(100);
        world.sides[0].user(key).is_finishing = false;
        let mut times = Vec::new();
        for count in 1..=2000 {
            world.sides[0].user(key).to_write = count * 100;
            times.push(world.run_while(|world| world.read(1) < count * 100));
        }
        times.sort_unstable();
        println!(
            "{round_trip} ms, loss {loss} per mille: mean {} us, 99.5 % {} us, sent {}",
            times.iter().sum::<u64>() / 2000,
            times[1989],
            world.sides[0].sent_packets
        );
    }
}

#[test]
fn a_dead_path_closes_the_connection() {
    let mut world = World::new(5 * MS, &UtpConfig::new(false));
    let key = world.connect(50 << 20);
    world.run_until(500 * MS);
    for link in &mut world.links {
        link.loss = 1000;
    }
    world.run_while(|world| world.sides[0].user(key).closed.is_none());
    assert_eq!(world.sides[0].user(key).closed, Some(UtpCloseReason::TimedOut));
    assert!((20_000_000..120_000_000).contains(&world.now), "{}", world.now);
}

#[test]
fn a_released_connection_delivers_what_was_written_and_is_forgotten() {
    let mut world = World::new(20 * MS, &UtpConfig::new(false));
    world.links[0].loss = 20;
    world.sides[1].answer = 0;
    let key = world.connect(1 << 20);
    world.run_while(|world| world.sides[0].user(key).written < 1 << 20);
    let now = world.sides[0].time(world.now);
    world.sides[0].endpoint.release(now, key);
    world.sides[0].users.clear();
    assert_eq!(world.sides[0].endpoint.addr(key), None);
    world.run_while(|world| !world.is_finished(1));
    assert_eq!(world.read(1), 1 << 20);
    world.run_until(world.now + 10_000 * MS);
    assert!(world.sides[0].endpoint.is_empty());
}

#[test]
fn idle_connections_are_small_and_wake_only_for_keep_alives() {
    let mut world = World::new(20 * MS, &UtpConfig::new(false));
    let key = world.connect(1 << 20);
    world.sides[0].user(key).is_finishing = false;
    world.run_while(|world| world.read(1) < 1 << 20);
    world.run_until(world.now + 60_000 * MS);
    for side in &world.sides {
        let (slot, generation) = *side.users.keys().next().expect("a user");
        let connection = side.endpoint.connection(crate::utp::UtpKey { slot, generation }).expect("a connection");
        assert_eq!(connection.allocated(), 0);
    }
    let (wake_ups, packets) = (world.wake_ups, world.sides[0].sent_packets + world.sides[1].sent_packets);
    world.run_until(world.now + 290_000 * MS);
    assert!(world.wake_ups - wake_ups <= 22, "{}", world.wake_ups - wake_ups);
    assert!(world.sides[0].sent_packets + world.sides[1].sent_packets - packets <= 22);
}

#[test]
fn thousands_of_connections_share_an_endpoint() {
    let mut config = UtpConfig::new(false);
    config.max_half_open_per_host = 10_000;
    config.max_half_open = 10_000;
    let mut world = World::new(10 * MS, &config);
    for _ in 0..2000 {
        world.connect(3_000);
    }
    world.run_while(|world| world.read(1) < 2000 * 3_000 || !world.is_finished(0));
    assert_eq!(world.sides[1].incoming, 2000);
}
