use proptest::prelude::*;

use super::*;

/// Reads everything.
fn read(stream: &mut UtpReceiveBuffer) -> Vec<u8> {
    let mut all = Vec::new();
    while !stream.readable().is_empty() {
        all.extend_from_slice(stream.readable());
        stream.consume(stream.readable().len());
    }
    all
}

fn sack(stream: &UtpReceiveBuffer) -> Vec<u8> {
    let mut out = vec![1];
    stream.write_sack(&mut out);
    out
}

#[test]
fn packets_are_put_in_order_and_gaps_are_told() {
    let mut stream = UtpReceiveBuffer::new(SeqNr(u16::MAX), 100);
    assert_eq!(stream.accept(SeqNr(u16::MAX), b"a", false), Arrival::InOrder);
    assert_eq!(stream.accept(SeqNr(2), b"dd", false), Arrival::OutOfOrder);
    assert_eq!(stream.accept(SeqNr(2), b"dd", false), Arrival::Duplicate);
    assert_eq!(stream.accept(SeqNr(u16::MAX), b"a", false), Arrival::Duplicate);
    assert_eq!((stream.ack(), stream.window(), sack(&stream)), (SeqNr(u16::MAX), 97, vec![2, 0, 0, 0]));
    assert_eq!(stream.accept(SeqNr(0), b"b", false), Arrival::OutOfOrder);
    assert_eq!((stream.ack(), sack(&stream)), (SeqNr(0), vec![1, 0, 0, 0]));
    assert_eq!(stream.accept(SeqNr(1), b"c", false), Arrival::OutOfOrder);
    assert_eq!((stream.ack(), sack(&stream)), (SeqNr(2), vec![]));
    assert!(!stream.has_gap());
    assert_eq!(read(&mut stream), b"abcdd");
    assert_eq!(stream.window(), 100);
    stream.free_unused();
    assert_eq!(stream.allocated(), 0);
}

#[test]
fn a_fin_ends_the_stream_when_everything_before_it_is_there() {
    let mut stream = UtpReceiveBuffer::new(SeqNr(5), 100);
    assert_eq!(stream.accept(SeqNr(6), b"", true), Arrival::OutOfOrder);
    assert!(!stream.is_finished());
    assert_eq!(stream.accept(SeqNr(7), b"x", false), Arrival::Refused, "after the end");
    assert_eq!(stream.accept(SeqNr(5), b"x", false), Arrival::OutOfOrder);
    assert!(stream.is_finished());
    assert_eq!((stream.ack(), read(&mut stream)), (SeqNr(6), b"x".to_vec()));
    assert_eq!(stream.accept(SeqNr(6), b"", true), Arrival::Duplicate);
}

#[test]
fn a_fin_before_accepted_packets_does_not_end_the_stream() {
    let mut stream = UtpReceiveBuffer::new(SeqNr(5), 100);
    stream.accept(SeqNr(9), b"late", false);
    stream.accept(SeqNr(7), b"", true);
    for seq in [5, 6, 8] {
        stream.accept(SeqNr(seq), b"x", false);
    }
    assert!(!stream.is_finished());
    assert_eq!(read(&mut stream), b"xxxlate");
}

#[test]
fn memory_is_bounded_but_the_next_packet_always_has_space() {
    let mut stream = UtpReceiveBuffer::new(SeqNr(0), 1000);
    assert_eq!(stream.accept(SeqNr(MAX_OUT_OF_ORDER as u16 + 1), b"x", false), Arrival::Refused);
    for seq in 1..=10 {
        assert_eq!(stream.accept(SeqNr(seq), &[seq as u8; 100], false), Arrival::OutOfOrder);
    }
    assert_eq!(stream.window(), 0);
    assert_eq!(stream.accept(SeqNr(11), b"x", false), Arrival::Refused);
    assert_eq!(stream.accept(SeqNr(0), &[0; 100], false), Arrival::OutOfOrder);
    assert_eq!((stream.ack(), stream.window()), (SeqNr(10), 0));
    assert_eq!(stream.accept(SeqNr(11), b"x", false), Arrival::Refused, "full");
    assert_eq!(read(&mut stream).len(), 1100);
    stream.discard();
    for seq in 11..100 {
        assert_eq!(stream.accept(SeqNr(seq), &[1; 900], false), Arrival::InOrder);
    }
    assert_eq!((stream.readable(), stream.window()), (&[][..], 1000));
}

proptest! {
    #[test]
    fn any_order_of_packets_gives_the_same_stream(
        order in prop::collection::vec(0_u16..40, 1..200),
        first in prop_oneof![Just(0_u16), Just(u16::MAX - 5)],
    ) {
        let mut stream = UtpReceiveBuffer::new(SeqNr(first), 1 << 20);
        let payload = |n: u16| vec![n as u8; usize::from(n) + 1];
        let mut seen = [false; 41];
        for n in order {
            let arrival = stream.accept(SeqNr(first).plus(n), &payload(n), false);
            prop_assert_eq!(arrival == Arrival::Duplicate, seen[usize::from(n)]);
            seen[usize::from(n)] = true;
            let next = seen.iter().position(|seen| !seen).unwrap_or(40) as u16;
            prop_assert_eq!(stream.ack(), SeqNr(first).plus(next).previous());
            let bits = sack(&stream);
            for later in next + 1..40 {
                let index = usize::from(later - next - 1);
                let is_set = bits.get(index / 8).is_some_and(|byte| byte & 1 << (index % 8) != 0);
                prop_assert_eq!(is_set, seen[usize::from(later)]);
            }
        }
        let next = seen.iter().position(|seen| !seen).unwrap_or(40) as u16;
        let expected: Vec<u8> = (0..next).flat_map(payload).collect();
        prop_assert_eq!(read(&mut stream), expected);
    }
}
