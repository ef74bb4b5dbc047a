use proptest::prelude::*;

use super::*;

fn header(kind: PacketKind) -> UtpHeader {
    UtpHeader {
        kind,
        id: 0x1234,
        timestamp: 0xdead_beef,
        delay: 0x0102_0304,
        window: 1 << 20,
        seq: SeqNr(0xfffe),
        ack: SeqNr(7),
    }
}

#[test]
fn a_header_has_the_bytes_of_the_specification() {
    let mut out = Vec::new();
    write_header(&mut out, &header(PacketKind::Syn));
    let expected = [
        0x41, 0, 0x12, 0x34, 0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4, 0, 0x10, 0, 0, 0xff, 0xfe, 0, 7, //
    ];
    assert_eq!(out, expected);
    let packet = parse(&out).expect("a packet");
    assert_eq!(packet, UtpPacket { header: header(PacketKind::Syn), sack: &[], payload: &[] });
}

#[test]
fn a_selective_acknowledgement_is_read_back() {
    let mut out = vec![9; 3];
    write_with_sack(&mut out, &header(PacketKind::State), &[1, 2, 3, 4]);
    let packet = parse(&out[3..]).expect("a packet");
    assert_eq!((packet.sack, packet.payload), (&[1, 2, 3, 4][..], &[][..]));
}

#[test]
fn padding_has_every_length_and_is_skipped() {
    for padding in (0..600).filter(|padding| *padding != 1).chain([65_507 - HEADER - 4]) {
        let mut out = Vec::new();
        write_padded(&mut out, &header(PacketKind::Data), padding);
        assert_eq!(out.len(), HEADER + padding);
        out.extend(b"data");
        let packet = parse(&out).unwrap_or_else(|| panic!("{padding} bytes of padding"));
        assert_eq!((packet.sack, packet.payload), (&[][..], &b"data"[..]), "{padding}");
    }
}

#[test]
fn unknown_extensions_are_skipped() {
    let mut out = Vec::new();
    write_header(&mut out, &header(PacketKind::Data));
    out[1] = 2;
    out.extend([1, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
    out.extend([77, 4, 5, 6, 7, 8]);
    out.extend([0, 0]);
    out.extend(b"x");
    let packet = parse(&out).expect("a packet");
    assert_eq!((packet.sack, packet.payload), (&[5, 6, 7, 8][..], &b"x"[..]));
}

#[test]
fn other_protocols_and_broken_chains_are_not_packets() {
    let mut valid = Vec::new();
    write_header(&mut valid, &header(PacketKind::Data));
    for (what, at, value) in
        [("version 0", 0, 0x00), ("version 2", 0, 0x02), ("type 5", 0, 0x51), ("an extension that is not there", 1, 1)]
    {
        let mut bytes = valid.clone();
        bytes[at] = value;
        assert_eq!(parse(&bytes), None, "{what}");
    }
    assert_eq!(parse(&valid[..HEADER - 1]), None, "short");
    assert!(!is_utp(b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t2:aa1:y1:qe"), "a message of the DHT");
    valid[1] = 9;
    valid.extend([9, 0].repeat(MAX_EXTENSIONS + 1));
    assert_eq!(parse(&valid), None, "an endless chain");
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), first in 0_u8..5) {
        let mut bytes = bytes;
        if let Some(byte) = bytes.first_mut() {
            *byte = first << 4 | 1;
        }
        if let Some(packet) = parse(&bytes) {
            prop_assert!(packet.payload.len() + packet.sack.len() + HEADER <= bytes.len());
        }
    }
}
