//! The encoding of resume data, and when it is trusted.

use sha1::{Digest as _, Sha1};

use super::*;
use crate::storage::FileSpec;
use crate::storage::resume_format::CHECKSUM_LEN;

const SECOND: i64 = 1_000_000_000;

fn stamp(at: i64) -> Stamp {
    Stamp { size: 100, mtime: at, ctime: at, inode: 7 }
}

fn record() -> ResumeData {
    let mut have = Bitfield::new(5);
    for piece in [0, 1, 3] {
        have.set(PieceIndex(piece));
    }
    ResumeData {
        info_hash: InfoHash([9; 20]),
        boot: "b0".to_owned(),
        files: vec![(0, stamp(-5)), (2, stamp(SECOND))],
        have,
        owned_files: Some(vec![(0, 11), (2, 12)]),
        uploaded: 1 << 40,
        partial: Vec::new(),
    }
}

/// Pieces of 50 bytes.
fn one_file(length: u64) -> Layout {
    Layout::new(50, vec![FileSpec { path: "a".into(), length, is_pad: false }]).expect("a layout")
}

/// A piece of `blocks` blocks with the blocks in `there` on disk.
fn partial(piece: u32, blocks: u32, there: &[u32]) -> PartialPiece {
    let mut partial = PartialPiece::new(PieceIndex(piece), blocks);
    for block in there {
        partial.set(*block);
    }
    partial
}

/// Two files of 5 and 7 blocks in pieces of four: the second piece is in both files.
fn blocks_layout() -> Layout {
    let file =
        |path: &str, blocks: u32| FileSpec { path: path.into(), length: u64::from(blocks * BLOCK_SIZE), is_pad: false };
    Layout::new(4 * BLOCK_SIZE, vec![file("a", 5), file("b", 7)]).expect("a layout")
}

/// Resume data with these partial pieces of [`blocks_layout`].
fn with_partial(partial: Vec<PartialPiece>) -> ResumeData {
    let files = vec![(0, stamp(-5)), (1, stamp(SECOND))];
    ResumeData { files, have: Bitfield::new(3), owned_files: None, partial, ..record() }
}

/// Three files of 100, 28 and 100 bytes in pieces of 50: the third piece is in all of them.
fn layout() -> Layout {
    let file = |path: &str, length, pad| FileSpec { path: path.into(), length, is_pad: pad };
    Layout::new(50, vec![file("a", 100, false), file("pad", 28, true), file("c", 100, false)]).expect("a layout")
}

#[test]
fn a_file_that_was_there_before_is_ours_only_as_btsync_left_it() {
    let stamp = Stamp { size: 9, mtime: 1, ctime: 2, inode: 3 };
    let seen = FileSnapshot { identity: 11, ..FileSnapshot::default() };
    for (number, was_started) in [(0, true), (PREEXISTING, false)] {
        let record = ResumeData { files: vec![(0, stamp)], owned_files: Some(vec![(number, 11)]), ..record() };
        let bytes = record.encode();
        let record = ResumeData::decode(&bytes, &layout()).unwrap();
        assert!(record.is_untouched(&layout(), 0, &seen, Some(stamp)));
        assert!(!record.is_untouched(&layout(), 0, &seen, Some(Stamp { ctime: 3, ..stamp })));
        assert_eq!(record.was_started(0, &seen), was_started);
    }
    assert!(stamp.has_same_content(&Stamp { ctime: 3, ..stamp }));
    let others = [Stamp { size: 8, ..stamp }, Stamp { mtime: 2, ..stamp }, Stamp { inode: 2, ..stamp }];
    assert!(!others.iter().any(|other| stamp.has_same_content(other)));
}

#[test]
fn encoded_resume_data_is_read_back() {
    let bytes = record().encode();
    assert!(bytes.len() <= ResumeData::max_encoded_size(&layout()));
    assert_eq!(ResumeData::decode(&bytes, &layout()), Ok(record()));
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let bytes = record().encode();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(ResumeData::decode(&damaged, &layout()).is_err(), "bit of byte {at}");
        assert!(ResumeData::decode(&bytes[..at], &layout()).is_err(), "cut at {at}");
    }
}

/// The body with its correct checksum, as another program might write it.
fn signed(body: &[u8]) -> Vec<u8> {
    [Sha1::digest(body).as_slice(), body].concat()
}

#[test]
fn records_of_another_shape_are_refused() {
    let bytes = record().encode();
    let decode = |bytes: &[u8]| ResumeData::decode(bytes, &layout());
    assert_eq!(ResumeData::decode(&bytes, &one_file(250)), Err(ResumeDataError::Field("files")));
    assert_eq!(ResumeData::decode(&bytes, &one_file(450)), Err(ResumeDataError::Field("pieces")));
    assert_eq!(decode(&vec![0; 10_000]), Err(ResumeDataError::TooLong(10_000)));
    let body = String::from_utf8_lossy(&bytes[CHECKSUM_LEN..]).replace("versioni1e", "versioni2e");
    assert!(decode(&signed(body.as_bytes())).is_err());
    assert_eq!(decode(&signed(b"de")), Err(ResumeDataError::Field("a field is missing")));
    assert!(matches!(decode(&signed(&[b'l'; 400])), Err(ResumeDataError::Bencode(_))));
}

#[test]
fn a_piece_is_believed_where_all_its_files_look_the_same() {
    let (record, layout) = (record(), layout());
    let trusted_pieces =
        |stamps: [Option<Stamp>; 3]| record.trusted_pieces(&layout, &stamps).iter().map(|p| p.0).collect::<Vec<_>>();
    assert_eq!(trusted_pieces([Some(stamp(-5)), None, Some(stamp(SECOND))]), [0, 1, 3]);
    assert_eq!(trusted_pieces([Some(stamp(-5)), None, None]), [0, 1]);
    assert_eq!(trusted_pieces([Some(stamp(-5)), None, Some(stamp(SECOND + 1))]), [0, 1]);
    let other = [
        Stamp { size: 99, ..stamp(-5) },
        Stamp { mtime: -4, ..stamp(-5) },
        Stamp { ctime: -4, ..stamp(-5) },
        Stamp { inode: 8, ..stamp(-5) },
    ];
    for other in other {
        assert_eq!(trusted_pieces([Some(other), None, Some(stamp(SECOND))]), [3], "{other:?}");
    }
    assert_eq!(trusted_pieces([None; 3]), [0; 0]);
}

#[test]
fn our_own_last_write_is_trusted_once_its_tick_is_over() {
    let now = stamp(10 * SECOND + 1);
    let written = Some((10 * SECOND, 10 * SECOND + 5));
    let over = 10 * SECOND + 1 + CLOCK_TICK;
    assert!(is_stamp_trusted(None, now, written, over));
    assert!(!is_stamp_trusted(None, now, written, over - 1), "another write would look the same");
    let coarse = stamp(10 * SECOND);
    assert!(
        !is_stamp_trusted(None, coarse, written, 10 * SECOND + COARSE_SETTLING_TIME - 1),
        "so would one in the same second"
    );
    assert!(is_stamp_trusted(None, coarse, written, 10 * SECOND + COARSE_SETTLING_TIME));
    assert!(!is_stamp_trusted(None, now, None, 20 * SECOND), "nobody knows who wrote it");
    assert!(!is_stamp_trusted(None, stamp(11 * SECOND), written, 20 * SECOND), "somebody else wrote after us");
    let touched = Stamp { ctime: 11 * SECOND, ..now };
    assert!(!is_stamp_trusted(None, touched, written, 20 * SECOND), "somebody else wrote and set the time back");
    assert!(
        !is_stamp_trusted(None, stamp(9 * SECOND), written, 20 * SECOND),
        "coarse times, or a clock that went back"
    );
}

#[test]
fn files_unchanged_since_before_the_check_are_trusted() {
    let now = stamp(10 * SECOND);
    assert!(is_stamp_trusted(Some(now), now, None, 20 * SECOND));
    assert!(!is_stamp_trusted(Some(stamp(9 * SECOND)), now, None, 20 * SECOND));
    assert!(!is_stamp_trusted(Some(now), now, None, 9 * SECOND), "the clock went back");
    assert!(!now.is_settled(12 * SECOND) && now.is_settled(13 * SECOND));
}

#[test]
fn a_record_from_the_future_is_not_believed() {
    let layout = layout();
    let stamps = [Some(stamp(-5)), None, Some(stamp(SECOND))];
    let trusted_pieces = |clock| {
        let mut record = record();
        record.drop_future_stamps(clock);
        record.trusted_pieces(&layout, &stamps).iter().map(|p| p.0).collect::<Vec<_>>()
    };
    assert_eq!(trusted_pieces(SECOND), [0, 1, 3]);
    assert_eq!(trusted_pieces(SECOND - 1), [0, 1], "the second file is of tomorrow");
    assert_eq!(trusted_pieces(-6), [0; 0]);
}

#[test]
fn a_clock_that_was_set_back_is_noticed_and_one_that_was_set_on_does_no_harm() {
    let at = |wall, steady| ClockReading { wall, steady };
    let start = at(100 * SECOND, 5 * SECOND);
    assert!(!at(110 * SECOND, 15 * SECOND).clock_went_back_since(start));
    assert!(
        !at(110 * SECOND - CLOCK_TICK, 15 * SECOND).clock_went_back_since(start),
        "two clocks are never read at once"
    );
    assert!(at(110 * SECOND - CLOCK_TICK - 1, 15 * SECOND).clock_went_back_since(start));
    assert!(at(i64::MIN, i64::MAX).clock_went_back_since(start));
    assert!(!at(i64::MAX, 6 * SECOND).clock_went_back_since(start));
}

/// A file of 100 bytes as the survey finds it.
fn seen(inode: u64) -> FileSnapshot {
    FileSnapshot { size: 100, inode, identity: inode + 4, ..FileSnapshot::default() }
}

#[test]
fn a_record_names_the_files_that_are_as_btsync_left_them_and_no_others() {
    let record = record();
    let left = |file, inode, now| record.is_untouched(&layout(), file, &seen(inode), now);
    assert!(left(0, 7, Some(stamp(-5))) && left(2, 8, Some(stamp(SECOND))));
    assert!(!left(0, 8, Some(stamp(-5))) && !left(2, 7, Some(stamp(SECOND))), "another file by the same name");
    assert!(!left(1, 7, None) && !left(9, 7, None) && !left(0, 7, None));
    // The file was written to since: another process may have completed it, and the user may have edited it.
    for now in [stamp(-4), Stamp { size: 101, ..stamp(-5) }, Stamp { ctime: 3, ..stamp(-5) }] {
        assert!(!left(0, 7, Some(now)), "{now:?}");
    }
}

#[test]
fn a_record_of_an_earlier_version_names_the_files_of_an_unfinished_download() {
    let mut record = ResumeData { owned_files: None, ..record() };
    let again = ResumeData::decode(&record.encode(), &layout()).expect("our record");
    assert_eq!(again.owned_files, None);
    let left = |record: &ResumeData, file, now| record.is_untouched(&layout(), file, &seen(7), now);
    assert!(left(&record, 0, Some(stamp(-5))) && left(&record, 2, Some(stamp(SECOND))));
    assert!(!left(&record, 0, Some(stamp(SECOND))), "it was changed since");
    // None of the last file's pieces was verified: it may never have been wanted.
    record.have.clear(PieceIndex(3));
    assert!(!left(&record, 2, Some(stamp(SECOND))));
    record.files.pop();
    assert!(!left(&record, 2, None) && !left(&record, 2, Some(stamp(SECOND))), "its length alone says nothing");
    record.have = Bitfield::full(5);
    assert!(!left(&record, 0, Some(stamp(-5))), "a complete file may have been the user's from the start");
}

#[test]
fn a_record_without_bytes_sent_or_with_fewer_than_none_has_none() {
    let bytes = record().encode();
    let body = String::from_utf8_lossy(&bytes[CHECKSUM_LEN..]).into_owned();
    assert!(body.contains("8:uploadedi1099511627776e"), "the field's name is part of the format");
    let altered = |field: &str| {
        let at = bytes.windows(10).position(|window| window == b"8:uploaded").expect("the field");
        let end = at + bytes[at..].iter().position(|byte| *byte == b'e').expect("its end");
        let end = end + 1 + bytes[end + 1..].iter().position(|byte| *byte == b'e').expect("its end");
        signed(&[&bytes[CHECKSUM_LEN..at], field.as_bytes(), &bytes[end + 1..]].concat())
    };
    for (field, uploaded) in [("", 0), ("8:uploadedi-5e", 0), ("8:uploadedi7e", 7)] {
        let again = ResumeData::decode(&altered(field), &layout()).expect("our record");
        assert_eq!(again, ResumeData { uploaded, ..record() }, "{field}");
    }
}

#[test]
fn blocks_of_unfinished_pieces_are_kept_and_read() {
    let record = with_partial(vec![partial(0, 4, &[0, 1, 3]), partial(2, 4, &[2])]);
    let bytes = record.encode();
    assert!(bytes.len() <= ResumeData::max_encoded_size(&blocks_layout()));
    assert_eq!(ResumeData::decode(&bytes, &blocks_layout()), Ok(record));
    // Data without partial pieces is the same as in versions that did not record them.
    assert!(!String::from_utf8_lossy(&with_partial(Vec::new()).encode()).contains("blocks"));
    // The largest resume data of a large torrent is not too long.
    let layout = Layout::new(8 << 20, vec![FileSpec { path: "a".into(), length: 4 << 30, is_pad: false }]).expect("it");
    let all = (0..512).map(|piece| partial(piece, 512, &[0, 511])).collect();
    let record = ResumeData { files: vec![(0, stamp(0))], have: Bitfield::new(512), ..with_partial(all) };
    assert_eq!(ResumeData::decode(&record.encode(), &layout), Ok(record));
}

/// Any string for `blocks`, in otherwise valid resume data.
fn with_blocks(blocks: &[u8]) -> Vec<PartialPiece> {
    let bytes = with_partial(vec![partial(0, 4, &[0])]).encode();
    let before = bytes.windows(8).position(|window| window == b"6:blocks").expect("the key") + 8;
    let after = before + 2 + 8; // "8:" and what follows
    let head = [&bytes[CHECKSUM_LEN..before], format!("{}:", blocks.len()).as_bytes()].concat();
    let body = [&head[..], blocks, &bytes[after..]].concat();
    ResumeData::decode(&signed(&body), &blocks_layout()).expect("a sound record").partial
}

#[test]
fn entries_that_do_not_fit_the_torrent_are_left_out() {
    let good = [0, 0, 0, 1, 0, 1, 0b0100_0000];
    let then_good = |entry: &[u8]| with_blocks(&[&[1], entry, &good].concat());
    assert_eq!(then_good(&[]), [partial(1, 4, &[1])]);
    let strange: [&[u8]; 7] = [
        &[0, 0, 0, 3, 0, 1, 0x80],       // no such piece
        &[0xff, 0xff, 0xff, 0xff, 0, 0], // nor this one
        &[0, 0, 0, 0, 0, 2, 0x80, 0],    // more blocks than the piece has
        &[0, 0, 0, 0, 0, 1, 0x88],       // a fifth block
        &[0, 0, 0, 0, 0, 0],             // no bits
        &[0, 0, 0, 0, 0, 1, 0],          // no block
        &[0, 0, 0, 0, 0, 1, 0xf0],       // all blocks: it would have been hashed
    ];
    for entry in strange {
        assert_eq!(then_good(entry), [partial(1, 4, &[1])], "{entry:?}");
    }
    let again = [0, 0, 0, 1, 0, 1, 0x80];
    assert_eq!(with_blocks(&[&[1], &good[..], &again].concat()), [partial(1, 4, &[1])], "the first counts");
    assert_eq!(with_blocks(&[&[1], &good[..], &good[..6]].concat()), [partial(1, 4, &[1])], "cut off");
    assert_eq!(with_blocks(&[&[2], &good[..]].concat()), [], "a form of later versions");
    assert_eq!(with_blocks(&[]), []);
}

#[test]
fn blocks_are_believed_where_their_own_files_look_the_same() {
    let layout = blocks_layout();
    let record = with_partial(vec![partial(0, 4, &[1]), partial(1, 4, &[0, 2, 3]), partial(2, 4, &[3])]);
    let trusted_pieces = |stamps: [Option<Stamp>; 2]| record.trusted_blocks(&layout, &stamps);
    assert_eq!(trusted_pieces([Some(stamp(-5)), Some(stamp(SECOND))]), record.partial);
    assert_eq!(trusted_pieces([Some(stamp(-5)), None]), [partial(0, 4, &[1]), partial(1, 4, &[0])]);
    let shorter = Stamp { size: 99, ..stamp(-5) };
    assert_eq!(trusted_pieces([Some(shorter), Some(stamp(SECOND))]), [partial(1, 4, &[2, 3]), partial(2, 4, &[3])]);
    assert_eq!(trusted_pieces([None; 2]), []);
}
