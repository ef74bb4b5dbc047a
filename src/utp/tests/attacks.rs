//! Strangers and hostile peers.

use std::net::SocketAddr;

use super::handshake::{Probe, header};
use crate::util::random::Random;
use crate::utp::packet::{PacketKind, UtpHeader, write_with_sack};
use crate::utp::seq_nr::SeqNr;
use crate::utp::{UtpCloseReason, UtpConfig, UtpEvent};

fn addr(number: u32) -> SocketAddr {
    SocketAddr::from((std::net::Ipv4Addr::from(0x0a00_0000 + number), 4000))
}

#[test]
fn floods_of_syns_are_bounded_and_never_amplified() {
    let mut probe = Probe::new(UtpConfig::new(false));
    let mut answered = 0;
    for number in 0..5_000 {
        probe.give(addr(number), header(PacketKind::Syn, number as u16, 1, 0), &[]);
        let sent = probe.sent();
        assert!(sent.iter().all(|(to, _, payload)| *to == addr(number) && payload.is_empty()));
        answered += sent.len();
    }
    assert!(answered <= 5_000);
    assert_eq!(probe.endpoint.len(), 1024);
    // One address cannot take all places.
    for id in 1..1_000 {
        probe.give(addr(9_999), header(PacketKind::Syn, id * 3, 1, 0), &[]);
    }
    assert_eq!(probe.sent().len(), 8);
    // But what others send in its name keeps it out for a second only.
    probe.pass(1_100_000);
    probe.give(addr(9_999), header(PacketKind::Syn, 5_000, 1, 0), &[]);
    assert_eq!(probe.sent().len(), 1);
    assert_eq!(probe.endpoint.len(), 1024);
    probe.endpoint.set_accepting(false);
    probe.give(addr(70_000), header(PacketKind::Syn, 7, 1, 0), &[]);
    assert_eq!(probe.sent(), []);
    probe.pass(20_000_000);
    assert!(probe.endpoint.is_empty());
}

#[test]
fn unknown_packets_are_answered_seldom_and_resets_never() {
    let mut probe = Probe::new(UtpConfig::new(false));
    let mut answers = 0;
    for number in 0..10_000 {
        probe.give(addr(number), header(PacketKind::Data, 3, 1, 0), &[0; 500]);
        answers += probe.sent().len();
        probe.now = probe.now.after(1_000);
    }
    assert!((400..=560).contains(&answers), "{answers} in ten seconds");
    probe.pass(10_000_000);
    probe.give(addr(1), header(PacketKind::Reset, 3, 1, 0), &[]);
    assert_eq!(probe.sent(), []);
    assert!(probe.endpoint.is_empty());
}

#[test]
fn acknowledgements_of_what_was_not_sent_are_ignored() {
    let mut probe = Probe::new(UtpConfig::new(false));
    let (key, next) = probe.open(addr(1));
    probe.endpoint.write(key, &vec![7; 60_000]);
    let sent = probe.sent().len();
    let (window, in_flight) = probe.endpoint.connection(key).expect("it").window();
    let state = UtpHeader { kind: PacketKind::State, ..next };
    for ahead in [5_u16, 100, 1_000, 30_000, 40_000] {
        for sack in [&[][..], &[0xff; 32], &[0xff; 252]] {
            let mut bytes = Vec::new();
            write_with_sack(&mut bytes, &UtpHeader { ack: next.ack.plus(sent as u16 + ahead), ..state }, sack);
            probe.endpoint.receive(probe.now, addr(1), None, &bytes);
        }
    }
    assert_eq!(probe.endpoint.connection(key).expect("it").window(), (window, in_flight));
    // Bits after the last packet are ignored, too.
    let mut bytes = Vec::new();
    write_with_sack(&mut bytes, &UtpHeader { ack: next.ack, ..state }, &[0xff; 252]);
    for _ in 0..100 {
        probe.endpoint.receive(probe.now, addr(1), None, &bytes);
        probe.sent();
    }
    let (after, _) = probe.endpoint.connection(key).expect("it").window();
    assert!(after <= window * 2 + 4_000, "{after} and {window}");
}

#[test]
fn an_acknowledgement_that_goes_back_changes_nothing() {
    let mut probe = Probe::new(UtpConfig::new(false));
    let (key, next) = probe.open(addr(1));
    let state = UtpHeader { kind: PacketKind::State, ..next };
    probe.endpoint.write(key, &[7; 4_000]);
    let sent = probe.sent().len() as u16;
    probe.give(addr(1), UtpHeader { ack: next.ack.plus(sent), window: 9_000, ..state }, &[]);
    let before = probe.endpoint.connection(key).expect("it").window();
    for back in 0..sent {
        probe.give(addr(1), UtpHeader { ack: next.ack.plus(back), window: 0, ..state }, &[]);
    }
    assert_eq!(probe.endpoint.connection(key).expect("it").window(), before);
    probe.endpoint.write(key, &[7; 1_000]);
    assert_eq!(probe.sent().len(), 1, "the old packets' window of 0 does not count");
}

#[test]
fn resets_that_name_no_packet_of_ours_are_ignored() {
    let mut probe = Probe::new(UtpConfig::new(false));
    let (key, next) = probe.open(addr(1));
    probe.endpoint.write(key, &[7; 4_000]);
    let sent = probe.sent().len() as u16;
    let reset = |ack: u16| UtpHeader { kind: PacketKind::Reset, ack: next.ack.plus(ack), ..next };
    for ack in sent + 2..u16::MAX {
        probe.give(addr(1), reset(ack), &[]);
    }
    assert_eq!(probe.events().iter().filter(|event| matches!(event, UtpEvent::Closed(..))).count(), 0);
    assert!(probe.endpoint.addr(key).is_some());
    probe.give(addr(1), reset(sent), &[]);
    assert_eq!(probe.events(), [UtpEvent::Closed(key, UtpCloseReason::Reset)]);
}

#[test]
fn a_peer_that_leaves_gaps_holds_little_memory() {
    let mut probe = Probe::new(UtpConfig::new(false));
    let (key, next) = probe.open(addr(1));
    for number in 1..u16::MAX {
        let payload = &[1; 1400][..if number % 2 == 0 { 1400 } else { 1 }];
        probe.give(addr(1), UtpHeader { seq: next.seq.plus(number), ..next }, payload);
        if number % 50 == 0 {
            probe.sent();
        }
    }
    let allocated = probe.endpoint.connection(key).expect("it").allocated();
    assert!(allocated < (1 << 20) + (64 << 10), "{allocated}");
    let before = probe.endpoint.readable(key).len();
    probe.give(addr(1), next, b"the missing one");
    let readable = probe.endpoint.readable(key).len();
    assert!(readable > before + 100_000 && readable <= (1 << 20) + 100, "{readable}");
}

/// Nonsense in the middle of a connection, of every kind that has the right number: nothing panics, nothing grows.
#[test]
fn nonsense_from_a_peer_does_not_break_the_endpoint() {
    let mut random = Random::seeded(11);
    for round in 0..60 {
        let mut probe = Probe::new(UtpConfig::new(false));
        let (key, next) = probe.open(addr(1));
        let mut sent_to_peer = 0;
        for _ in 0..400 {
            let kinds = [PacketKind::Data, PacketKind::State, PacketKind::State, PacketKind::Fin, PacketKind::Syn];
            let near = |random: &mut Random, from: SeqNr| from.plus((random.up_to(40) as u16).wrapping_sub(20));
            let header = UtpHeader {
                kind: kinds[random.up_to(if round % 2 == 0 { 2 } else { 4 }) as usize],
                id: next.id,
                timestamp: random.u32(),
                delay: random.u32() >> random.up_to(31),
                window: random.u32() >> random.up_to(31),
                seq: near(&mut random, next.seq),
                ack: near(&mut random, next.ack.plus(20)),
            };
            let mut sack = vec![0; random.up_to(3) as usize * 4];
            random.fill(&mut sack);
            let mut bytes = Vec::new();
            write_with_sack(&mut bytes, &header, &sack);
            bytes.resize(bytes.len() + random.up_to(300) as usize, 3);
            probe.endpoint.receive(probe.now, addr(1), None, &bytes);
            probe.endpoint.write(key, &[5; 900][..random.up_to(900) as usize]);
            let count = probe.endpoint.readable(key).len();
            probe.endpoint.consume(key, count / 2);
            sent_to_peer += probe.sent().len();
            probe.pass(u64::from(random.up_to(200_000)));
            probe.events();
        }
        assert!(sent_to_peer < 20_000, "{sent_to_peer}");
        assert!(probe.endpoint.connection(key).is_none_or(|connection| connection.allocated() < 4 << 20));
    }
}

/// Packets after a gap, until the connection would have a mebibyte of them.
fn leave_a_gap(probe: &mut Probe, from: SocketAddr, next: UtpHeader) {
    for number in 1..800 {
        probe.give(from, UtpHeader { seq: next.seq.plus(number), ..next }, &[1; 1400]);
        probe.sent();
    }
}

#[test]
fn a_released_connection_keeps_nothing_that_it_receives() {
    let mut probe = Probe::new(UtpConfig::new(false));
    let (key, next) = probe.open(addr(1));
    leave_a_gap(&mut probe, addr(1), next);
    assert!(probe.endpoint.buffered() > 1 << 19);
    probe.endpoint.release(probe.now, key);
    assert_eq!(probe.endpoint.buffered(), 0);
    leave_a_gap(&mut probe, addr(1), next);
    assert_eq!(probe.endpoint.buffered(), 0);
}

#[test]
fn one_host_has_few_released_connections_and_all_have_their_limit() {
    let mut probe = Probe::new(UtpConfig { max_released: 100, ..UtpConfig::new(false) });
    let mut open = |from: SocketAddr| {
        let (key, _) = probe.open(from);
        probe.endpoint.release(probe.now, key);
        let resets = probe.sent().iter().filter(|(_, header, _)| header.kind == PacketKind::Reset).count();
        (probe.endpoint.len(), resets)
    };
    let same_host = |port: u16| SocketAddr::new(addr(1).ip(), port);
    assert_eq!((1..=32).map(|port| open(same_host(port))).last(), Some((32, 0)));
    assert_eq!((33..=200).map(|port| open(same_host(port))).last(), Some((32, 1)), "the oldest was told");
    // 68 other hosts have room, and then those of the host with the most go.
    assert_eq!((2..=69).map(|number| open(addr(number))).last(), Some((100, 0)));
    assert_eq!((70..=90).map(|number| open(addr(number))).last(), Some((100, 1)));
}

#[test]
fn incoming_connections_leave_places_for_our_own() {
    let mut probe = Probe::new(UtpConfig { max_connections: 40, ..UtpConfig::new(false) });
    for number in 1..=30 {
        probe.open(addr(number));
    }
    probe.give(addr(31), header(PacketKind::Syn, 100, 1, 0), &[]);
    assert_eq!(probe.sent(), []);
    for number in 41..=50 {
        probe.endpoint.connect(probe.now, addr(number)).expect("a place");
    }
    assert!(probe.endpoint.connect(probe.now, addr(51)).is_err());
}

#[test]
fn all_connections_together_keep_a_bounded_number_of_bytes() {
    let config = UtpConfig { max_buffered: 3 << 20, ..UtpConfig::new(false) };
    let mut probe = Probe::new(config.clone());
    let peers: Vec<_> = (1..=40).map(|number| (addr(number), probe.open(addr(number)))).collect();
    for (from, (_, next)) in &peers {
        leave_a_gap(&mut probe, *from, *next);
    }
    let most = config.max_buffered + config.receive_buffer + peers.len() * config.min_receive_buffer;
    assert!(probe.endpoint.buffered() <= most, "{}", probe.endpoint.buffered());
    // Streams without gaps go on.
    let (from, (key, next)) = peers[39];
    let before = probe.endpoint.readable(key).len();
    probe.give(from, next, b"the missing one");
    assert!(probe.endpoint.readable(key).len() > before);
    // When the others are gone, there is room again.
    for (_, (key, _)) in &peers[..39] {
        probe.endpoint.reset(*key);
    }
    probe.sent();
    let before = probe.endpoint.buffered();
    leave_a_gap(&mut probe, from, UtpHeader { seq: next.seq.plus(900), ..next });
    assert!(probe.endpoint.buffered() > before + (1 << 19));
}

#[test]
fn a_released_connection_does_not_wait_long_for_a_fin() {
    let mut probe = Probe::new(UtpConfig::new(false));
    let (key, next) = probe.open(addr(1));
    probe.endpoint.release(probe.now, key);
    let (_, fin, _) = probe.sent().into_iter().find(|(_, header, _)| header.kind == PacketKind::Fin).expect("a FIN");
    probe.give(addr(1), UtpHeader { kind: PacketKind::State, ack: fin.seq, ..next }, &[]);
    probe.pass(4_900_000);
    assert_eq!(probe.endpoint.len(), 1);
    probe.pass(200_000);
    assert!(probe.endpoint.is_empty());
    assert_eq!(probe.sent_one().1.kind, PacketKind::Reset);
}

/// An address that may be forged, and one of a subnet, whose owner may send from all its addresses.
#[test]
fn half_open_connections_of_one_subnet_leave_places_for_others() {
    let mut probe = Probe::new(UtpConfig::new(true));
    let of_subnet = |number: u16| SocketAddr::from(([0x2a00, 1, 2, number, 0, 0, 0, 1], 4000));
    for number in 0..1_000 {
        probe.give(of_subnet(number), header(PacketKind::Syn, 7, 1, 0), &[]);
        probe.sent();
    }
    assert_eq!(probe.endpoint.len(), 256);
    for port in 0..20 {
        let same_64 = SocketAddr::from(([0x2a00, 3, 2, 1, 0, 0, 0, port], 4000));
        probe.give(same_64, header(PacketKind::Syn, 7, 1, 0), &[]);
    }
    assert_eq!(probe.sent().len(), 8);
    assert_eq!(probe.endpoint.len(), 256 + 8);
    // All of them can be opened, and then they count no more.
    let (key, _) = probe.open(SocketAddr::from(([0x2a00, 9, 2, 1, 0, 0, 0, 1], 4000)));
    probe.endpoint.reset(key);
    probe.sent();
    probe.pass(11_000_000);
    assert!(probe.endpoint.is_empty());
    probe.give(of_subnet(1), header(PacketKind::Syn, 7, 1, 0), &[]);
    assert_eq!(probe.sent().len(), 1);
}

#[test]
fn the_number_of_our_answer_cannot_be_guessed() {
    let mut probe = Probe::new(UtpConfig::new(false));
    probe.give(addr(1), header(PacketKind::Syn, 100, 1, 0), &[]);
    let (_, answer, _) = probe.sent_one();
    let right = answer.seq.previous();
    for guess in 1..=4 {
        probe.give(addr(1), header(PacketKind::State, 101, 2, right.plus(guess).0), &[]);
    }
    for guess in 0..=u16::MAX {
        probe.give(addr(1), header(PacketKind::State, 101, 2, guess), &[]);
    }
    assert_eq!(probe.events(), []);
}

#[test]
fn acknowledgements_that_are_guessed_end_a_connection_that_has_proved_nothing() {
    let mut probe = Probe::new(UtpConfig::new(false));
    let (key, next) = probe.open(addr(1));
    probe.endpoint.write(key, &vec![7; 60_000]);
    let sent = probe.sent().len();
    let state = UtpHeader { kind: PacketKind::State, ..next };
    let mut more = 0;
    for guess in 0..64_u16 {
        probe.give(addr(1), UtpHeader { ack: SeqNr(guess * 1024), ..state }, &[]);
        more += probe.sent().iter().map(|(_, _, payload)| payload.len()).sum::<usize>();
    }
    assert!(probe.events().contains(&UtpEvent::Closed(key, UtpCloseReason::Reset)));
    assert!(more <= 60_000 && sent > 0, "{more}");

    // A peer that has received much is not suspected.
    let (key, next) = probe.open(addr(2));
    let state = UtpHeader { kind: PacketKind::State, ..next };
    let mut ack = next.ack;
    for _ in 0..100 {
        probe.endpoint.write(key, &[7; 2_000]);
        ack = ack.plus(probe.sent().len() as u16);
        probe.give(addr(2), UtpHeader { ack, ..state }, &[]);
        probe.pass(10_000);
    }
    for guess in 0..64_u16 {
        probe.give(addr(2), UtpHeader { ack: SeqNr(guess * 1024), ..state }, &[]);
    }
    assert!(probe.endpoint.addr(key).is_some());
    assert!(probe.events().iter().all(|event| !matches!(event, UtpEvent::Closed(..))));
}
