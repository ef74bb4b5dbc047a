//! What a marker says, and what damages do to it.

use super::*;
use proptest::prelude::*;

const HASH: InfoHash = InfoHash([0xab; 20]);

#[test]
fn names_are_a_markers_or_not() {
    let name = marker_name(&HASH);
    assert_eq!(marker_info_hash(name.to_str().unwrap()), Some(HASH));
    for other in ["", ".btsync", "x.btsync", ".abab.btsync", ".+b+b+b+b+b+b+b+b+b+b+b+b+b+b+b+b+b+b+b+b.parts"] {
        assert_eq!(marker_info_hash(other), None, "{other}");
    }
    let part_name = crate::storage::part_name(&HASH);
    let new = format!("{}.new", name.display());
    let beside = format!("{}.parts", name.display());
    for ours in [
        name.as_path(),
        &part_name,
        Path::new(&new),
        Path::new(&beside),
        Path::new(&name.display().to_string().to_uppercase()),
        Path::new(&new.to_uppercase()),
        Path::new(&name.display().to_string().replace('s', "\u{17f}")),
    ] {
        assert!(is_reserved(ours), "{}", ours.display());
    }
    let bare = format!(".{HASH}");
    for other in [".bashrc", "x", ".abab.parts", "", &bare] {
        assert!(!is_reserved(Path::new(other)), "{other}");
    }
}

#[test]
fn a_file_is_the_same_only_if_it_is_the_one_that_was_made() {
    let marker = Marker { created: [(path_hash(Path::new("a")), 7)].into(), ..Marker::default() };
    assert!(marker.is_unfinished_file(Path::new("a"), 7) && marker.uses(Path::new("a"), 7));
    assert!(!marker.is_unfinished_file(Path::new("a"), 8), "somebody put another file there, or the folder is a copy");
    assert!(!marker.is_unfinished_file(Path::new("b"), 7));
}

#[test]
fn a_reusable_inode_only_claims_and_a_permanent_one_proves() {
    let (a, passing) = (Path::new("a"), 1 << 63);
    let marker = Marker { created: [(path_hash(a), passing | 7)].into(), ..Marker::default() };
    assert!(!marker.proves(a, passing | 7));
    assert_eq!(marker.claims(a, passing | 7), OwnershipClaim::MadeButReusable);
    assert_eq!(marker.claims(a, passing | 8), OwnershipClaim::StartedHere, "a file system in user space counts anew");
    assert_eq!([marker.claims(a, 7), marker.claims(Path::new("b"), passing | 7)], [OwnershipClaim::None; 2]);
    let lasting = Marker { created: [(path_hash(a), 7)].into(), ..Marker::default() };
    assert_eq!([lasting.claims(a, 8), lasting.claims(a, passing | 7)], [OwnershipClaim::None; 2], "another file");
}

#[test]
fn a_file_that_was_there_before_is_used_and_not_made_and_one_that_is_complete_is_neither() {
    let [a, b] = ["a", "b"].map(Path::new);
    let (created, used_existing) = ([(path_hash(a), 7)].into(), [(path_hash(b), 8)].into());
    let mut marker = Marker { user_files: vec![b.to_owned()], created, used_existing, ..Marker::default() };
    assert!(marker.uses(b, 8) && !marker.is_unfinished_file(b, 8) && !marker.uses(b, 9));
    assert!(marker.remove_complete(a) && marker.remove_complete(b) && !marker.remove_complete(a));
    assert_eq!(marker, Marker { user_files: vec![b.to_owned(), a.to_owned()], ..Marker::default() });
}

#[test]
fn notes_are_appended_and_a_note_that_was_cut_off_says_nothing() {
    let [a, b] = ["a", "b"].map(Path::new);
    let marker = Marker { created: [(path_hash(a), 7), (path_hash(b), 8)].into(), ..Marker::default() };
    let mut bytes = marker.encode(&HASH);
    bytes.extend(MarkerNote::Completed(path_hash(a), 7, 5).line().bytes());
    let length = bytes.len();
    bytes.extend(MarkerNote::Refused(path_hash(b), 8).line().bytes());
    let first = Marker::decode(&bytes[..length], &HASH).unwrap();
    assert!(
        first.is_completed_file(a, 7)
            && first.is_created_file(a, 7)
            && !first.is_unfinished_file(a, 7)
            && first.is_unfinished_file(b, 8)
    );
    for cut in length..bytes.len() - 1 {
        assert_eq!(Marker::decode(&bytes[..cut], &HASH).as_ref(), Some(&first), "{cut}");
    }
    bytes.extend(MarkerNote::Stopped.line().bytes());
    let last = Marker::decode(&bytes, &HASH).unwrap();
    assert!(
        last.is_refused(b, 8)
            && !last.is_refused(b, 9)
            && !last.is_created_file(b, 8)
            && last.has_stopped
            && last.is_needed()
    );
    assert_eq!(Marker::decode(&last.encode(&HASH), &HASH), Some(last));
}

#[test]
fn damaged_markers_and_those_of_other_torrents_are_ignored() {
    let bytes = Marker { created: [(1, 2)].into(), ..Marker::default() }.encode(&HASH);
    assert!(Marker::decode(&bytes, &HASH).is_some());
    assert_eq!(Marker::decode(&bytes, &InfoHash([1; 20])), None);
    for cut in 0..bytes.len() {
        assert_eq!(Marker::decode(&bytes[..cut], &HASH), None, "{cut}");
    }
    for at in 0..bytes.len() {
        let mut spoilt = bytes.clone();
        spoilt[at] ^= 1;
        assert_eq!(Marker::decode(&spoilt, &HASH), None, "{at}");
    }
}

#[test]
fn edits_by_other_programs_are_in_the_marker() {
    let [a, b] = ["a", "b"].map(Path::new);
    let mut marker = Marker { created: [(path_hash(a), 7), (path_hash(b), 8)].into(), ..Marker::default() };
    let seen = |identity, changed| FileSnapshot { identity, ctime: (0, changed), ..FileSnapshot::default() };
    marker.apply(MarkerNote::Edited(path_hash(a), 9));
    assert!(!marker.is_edited(a, 7) && !marker.is_edited(a, 9), "another file");
    for note in [MarkerNote::Edited(path_hash(a), 7), MarkerNote::Edited(path_hash(b), 8), MarkerNote::RanUntil(70)] {
        let line = note.line();
        assert_eq!(MarkerNote::read(line.trim_end()), Some(note));
        marker.apply(note);
    }
    assert!(marker.is_edited(a, 7) && marker.ran_until == 70);
    marker.apply(MarkerNote::Completed(path_hash(a), 7, 5));
    marker.apply(MarkerNote::Refused(path_hash(b), 8));
    assert!(marker.edited.is_empty());
    let says = |marker: &Marker| [4, 5, 6].map(|time| marker.is_completed_and_unchanged(a, &seen(7, time)));
    assert_eq!(says(&marker), [true, true, false]);
    assert!(!marker.is_completed_and_unchanged(a, &seen(8, 4)), "another file");
    assert_eq!(says(&Marker::decode(&marker.encode(&HASH), &HASH).unwrap()), [true, true, false]);
    marker.apply(MarkerNote::Completed(path_hash(a), 7, 6));
    assert_eq!(says(&marker), [true, true, true], "it was found complete again");
    // As an earlier version writes it.
    let old = format!("done {:016x} {:016x}", path_hash(a), 7);
    let line = format!("{old} {:016x}", path_hash(Path::new(&old)));
    assert_eq!(MarkerNote::read(&line), Some(MarkerNote::Completed(path_hash(a), 7, i64::MAX)));
}

proptest! {
    #[test]
    fn a_marker_comes_back(ran_until in 0..i64::MAX, created: HashMap<u64, u64>, used_existing: HashMap<u64, u64>, user_files in proptest::collection::vec("[^\n]{1,20}", 0..5)) {
        let user_files = user_files.into_iter().map(PathBuf::from).collect();
        let (completed, refused, edited) = (created.clone(), used_existing.clone(), created.clone());
        let completed_at = created.keys().map(|path_hash| (*path_hash, ran_until / 2)).collect();
        let has_stopped = ran_until % 2 == 0;
        let mtimes_at_stop = created.keys().filter(|_| has_stopped).map(|path_hash| (*path_hash, ran_until / 4)).collect();
        let (earliest_write, modified_at) = (ran_until / 3, 0);
        let marker = Marker { user_files, created, used_existing, completed, completed_at, refused, edited, ran_until, earliest_write, has_stopped, mtimes_at_stop, modified_at };
        prop_assert_eq!(Marker::decode(&marker.encode(&HASH), &HASH), Some(marker));
    }
}
