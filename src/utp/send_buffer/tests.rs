use proptest::prelude::*;

use super::*;

const NOW: UtpTime = UtpTime(1_000_000);

fn sent(first: u16, count: usize) -> SendBuffer {
    let mut buffer = SendBuffer::new(SeqNr(first));
    buffer.write(&vec![7; count * 10]);
    for _ in 0..count {
        buffer.send_new(NOW, 10, false, false);
    }
    buffer
}

#[test]
fn packets_are_acknowledged_across_the_wrap() {
    let mut buffer = sent(u16::MAX - 1, 5);
    assert_eq!((buffer.in_flight(), buffer.next_seq(), buffer.unacked_bytes()), (50, SeqNr(3), 50));
    let outcome = buffer.acknowledge(SeqNr(0), &[], NOW.after(70), 0);
    assert_eq!((outcome.bytes, outcome.packets, outcome.round_trip), (30, 3, Some(70)));
    assert_eq!((buffer.in_flight(), buffer.acked(), buffer.unacked_bytes()), (20, SeqNr(0), 20));
    assert_eq!(buffer.acknowledge(SeqNr(0), &[], NOW, 0), AckOutcome::default());
    assert_eq!(buffer.acknowledge(SeqNr(u16::MAX), &[], NOW, 0), AckOutcome::default(), "an older one");
    let outcome = buffer.acknowledge(SeqNr(0), &[0xff; 4], NOW, 0);
    assert_eq!(outcome.packets, 1, "only what was sent");
    assert_eq!((buffer.in_flight(), buffer.packets()), (10, 2));
}

#[test]
fn three_later_arrivals_make_a_packet_lost_and_retransmissions_can_be_lost_too() {
    let mut buffer = sent(10, 12);
    buffer.acknowledge(SeqNr(9), &[0b11], NOW, 0);
    assert_eq!(buffer.detect_losses(NOW, 1_000), LossOutcome::default(), "11 and 12 have arrived: perhaps reordered");
    buffer.acknowledge(SeqNr(9), &[0b111], NOW, 0);
    assert_eq!(buffer.detect_losses(NOW, 1_000).newest_lost, Some(0));
    assert_eq!((buffer.lost_packets(), buffer.in_flight(), buffer.outstanding()), (1, 80, 90));
    let again = buffer.retransmit(NOW).expect("packet 10");
    assert_eq!((again.seq, again.start, again.len), (SeqNr(10), 0, 10));
    assert_eq!(buffer.retransmit(NOW), None);
    for _ in 0..3 {
        buffer.write(&[7; 10]);
        buffer.send_new(NOW, 10, false, false);
    }
    buffer.acknowledge(SeqNr(9), &[0xff, 0b11], NOW, 0);
    assert_eq!(buffer.detect_losses(NOW, 1_000), LossOutcome::default());
    buffer.acknowledge(SeqNr(9), &[0xff, 0b11_1111], NOW, 0);
    assert_eq!(buffer.detect_losses(NOW, 1_000).newest_lost, Some(12), "three later ones, sent after it, have arrived");
    buffer.retransmit(NOW).expect("packet 10");
    assert_eq!(buffer.acknowledge(SeqNr(24), &[], NOW, 0).round_trip, None, "sent more than once");
    assert_eq!((buffer.in_flight(), buffer.outstanding(), buffer.packets(), buffer.unacked_bytes()), (0, 0, 0, 0));
}

#[test]
fn one_later_arrival_and_patience_make_a_packet_lost() {
    let mut buffer = sent(10, 2);
    buffer.acknowledge(SeqNr(9), &[1], NOW.after(500), 0);
    assert_eq!(buffer.detect_losses(NOW.after(1_000), 1_000), LossOutcome::default());
    assert_eq!(buffer.detect_losses(NOW.after(1_001), 1_000).newest_lost, Some(0));
}

#[test]
fn a_lost_probe_says_so() {
    let mut buffer = SendBuffer::new(SeqNr(0));
    buffer.write(&[0; 100]);
    buffer.send_new(NOW, 10, false, true);
    for _ in 0..4 {
        buffer.send_new(NOW, 10, false, false);
    }
    buffer.acknowledge(SeqNr(u16::MAX), &[0b111], NOW, 0);
    assert_eq!(buffer.detect_losses(NOW, 1_000), LossOutcome { newest_lost: None, is_mtu_probe_lost: true });
    buffer.retransmit(NOW);
    assert!(!buffer.acknowledge(SeqNr(0), &[], NOW, 0).is_mtu_probe_acked);
}

#[test]
fn the_end_is_a_packet_without_bytes() {
    let mut buffer = sent(0, 1);
    buffer.finish();
    assert!(buffer.is_fin_next());
    assert!(buffer.send_new(NOW, 0, false, false).is_fin);
    assert!(!buffer.is_fin_next() && !buffer.is_finished());
    assert_eq!(buffer.lose_all().newest_lost, Some(1));
    assert!(!buffer.has_in_flight());
    buffer.retransmit(NOW);
    assert!(buffer.retransmit(NOW).is_some_and(|packet| packet.is_fin));
    assert!(buffer.has_in_flight());
    buffer.acknowledge(SeqNr(1), &[], NOW, 0);
    assert!(buffer.is_finished() && !buffer.has_in_flight());
}

proptest! {
    /// Whatever is acknowledged, the sums are right and nothing that was not sent counts.
    #[test]
    fn sums_stay_right(steps in prop::collection::vec((0_u8..6, any::<u16>(), any::<u32>()), 1..100)) {
        let mut buffer = SendBuffer::new(SeqNr(65_500));
        let mut now = NOW;
        for (what, number, bits) in steps {
            now = now.after(u64::from(number) % 5_000);
            match what {
                0 | 1 if buffer.packets() < MAX_PACKETS => {
                    buffer.write(&vec![1; usize::from(number % 50)]);
                    let len = buffer.unsent().min(20);
                    if len > 0 {
                        buffer.send_new(now, len, len < 20, number % 7 == 0);
                    }
                }
                2 => drop(buffer.retransmit(now)),
                3 => drop(buffer.lose_all()),
                4 => drop(buffer.lose_first()),
                _ => {
                    let last = buffer.next_seq().previous();
                    let ack = SeqNr(last.0.wrapping_sub(number % 100));
                    let outcome = buffer.acknowledge(ack, &bits.to_be_bytes(), now, 1_000);
                    prop_assert!(outcome.packets <= MAX_PACKETS);
                    buffer.detect_losses(now, 4_000);
                }
            }
            let of = |status: PacketStatus| buffer.packets.iter().filter(move |packet| packet.status == status);
            let bytes = |status: PacketStatus| of(status).map(|packet| packet.len as usize).sum::<usize>();
            prop_assert_eq!(buffer.in_flight, bytes(PacketStatus::InFlight));
            prop_assert_eq!(buffer.in_flight_packets, of(PacketStatus::InFlight).count());
            prop_assert_eq!(buffer.lost_bytes, bytes(PacketStatus::Lost));
            prop_assert_eq!(buffer.lost_packets, of(PacketStatus::Lost).count());
            let all: usize = buffer.packets.iter().map(|packet| packet.len as usize).sum();
            prop_assert_eq!(buffer.unacked_bytes(), all + buffer.unsent());
        }
    }
}
