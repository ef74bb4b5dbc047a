//! Which of several torrents may write to a file.

use super::*;

const A: InfoHash = InfoHash([1; 20]);
const B: InfoHash = InfoHash([2; 20]);
const C: InfoHash = InfoHash([3; 20]);

fn owner(info_hash: InfoHash) -> FileOwner {
    FileOwner { info_hash, name: format!("{}.torrent", info_hash.0[0]) }
}

fn taken(number: usize, info_hash: InfoHash) -> TakenFile {
    TakenFile { number, is_incomplete_name: false, owner: owner(info_hash) }
}

fn refused(number: usize, info_hash: InfoHash) -> WriteAnswer {
    WriteAnswer::Refused(taken(number, info_hash))
}

fn add_torrent(owners: &mut FileOwners, position: u64, info_hash: InfoHash, files: &[&str]) {
    let files = files.iter().map(Path::new).enumerate();
    owners.add_torrent(position, owner(info_hash), Path::new("out"), files, std::iter::empty());
}

fn add_with_suffix(owners: &mut FileOwners, position: u64, info_hash: InfoHash, file: &str) {
    let (files, suffixed) = ([(0, Path::new(file))], format!("{file}.part"));
    let names = [(0, Path::new(&suffixed))];
    owners.add_torrent(position, owner(info_hash), Path::new("out"), files.into_iter(), names.into_iter());
}

#[test]
fn the_later_of_two_writing_torrents_is_refused_in_any_order() {
    for later_first in [false, true] {
        let mut owners = FileOwners::default();
        owners.reserve(0);
        owners.reserve(1);
        add_torrent(&mut owners, 1, B, &["y", "x"]);
        assert_eq!(owners.claim_for_writing(B), WriteAnswer::Wait, "the earlier one is not there");
        add_torrent(&mut owners, 0, A, &["x"]);
        if later_first {
            assert_eq!(owners.claim_for_writing(B), WriteAnswer::Wait, "the earlier one may write");
        }
        assert_eq!(owners.claim_for_writing(A), WriteAnswer::Granted);
        assert_eq!(owners.claim_for_writing(A), WriteAnswer::Granted, "a torrent that asks again has its own");
        assert_eq!(owners.claim_for_writing(B), refused(1, A));
        assert_eq!(owners.claim_for_reading(B), Err(taken(1, A)));
    }
}

#[test]
fn those_that_share_no_file_wait_only_until_all_are_there() {
    let mut owners = FileOwners::default();
    owners.reserve(0);
    add_torrent(&mut owners, 1, B, &["y"]);
    assert_eq!(owners.claim_for_writing(B), WriteAnswer::Wait);
    owners.end_reservation(0);
    assert_eq!(owners.claim_for_writing(B), WriteAnswer::Granted, "the earlier one was no torrent");
    add_torrent(&mut owners, 0, A, &["x"]);
    assert_eq!(owners.claim_for_writing(A), WriteAnswer::Granted);
    assert!(owners.owns(Path::new("out/x"), None) && !owners.owns(Path::new("out/z"), None));
}

#[test]
fn complete_torrents_share_files_and_nobody_writes_to_them() {
    let mut owners = FileOwners::default();
    for (position, hash) in [(0, A), (1, B), (2, C)] {
        add_torrent(&mut owners, position, hash, &["x"]);
    }
    assert_eq!((owners.claim_for_reading(A), owners.claim_for_reading(B)), (Ok(()), Ok(())));
    assert!(matches!(owners.claim_for_writing(C), WriteAnswer::Refused(TakenFile { number: 0, .. })));
    owners.release(A);
    assert_eq!(owners.claim_for_writing(C), refused(0, B));
    owners.release(B);
    assert_eq!(owners.claim_for_writing(C), WriteAnswer::Granted, "a torrent that failed owns no file");
    owners.release(C);
    assert!(owners.files.is_empty() && owners.other_claimants.is_empty() && owners.torrents.is_empty());
}

#[test]
fn an_earlier_one_that_turns_out_to_read_is_not_written_over() {
    let mut owners = FileOwners::default();
    add_torrent(&mut owners, 0, A, &["x"]);
    add_torrent(&mut owners, 1, B, &["x"]);
    assert_eq!(owners.claim_for_writing(B), WriteAnswer::Wait);
    assert_eq!(owners.claim_for_reading(A), Ok(()));
    assert_eq!(owners.claim_for_writing(B), refused(0, A));
    // In another folder it is a different file.
    owners.add_torrent(2, owner(C), Path::new("elsewhere"), [(0, Path::new("x"))].into_iter(), std::iter::empty());
    assert_eq!(owners.claim_for_writing(C), WriteAnswer::Granted);
}

#[test]
fn the_name_of_an_incomplete_file_is_taken_as_long_as_the_file_may_be_incomplete() {
    let mut owners = FileOwners::default();
    let by_name = || WriteAnswer::Refused(TakenFile { is_incomplete_name: true, ..taken(0, B) });
    add_with_suffix(&mut owners, 0, A, "x");
    add_with_suffix(&mut owners, 1, B, "x.part");
    assert_eq!(owners.claim_for_writing(A), WriteAnswer::Granted);
    assert_eq!(owners.claim_for_writing(B), refused(0, A), "whoever is first");
    owners.release(A);
    assert_eq!(owners.claim_for_writing(B), WriteAnswer::Granted);
    add_with_suffix(&mut owners, 2, A, "x");
    assert_eq!(owners.claim_for_writing(A), by_name());
    // The file turns out to have its final name.
    owners.retain_incomplete_names(A, |_| true);
    assert_eq!(owners.claim_for_writing(A), by_name());
    owners.retain_incomplete_names(A, |_| false);
    assert_eq!(owners.claim_for_writing(A), WriteAnswer::Granted);
    add_torrent(&mut owners, 3, C, &["x"]);
    assert_eq!(owners.claim_for_writing(C), refused(0, A), "the final name stays taken");
    for torrent in [A, B, C] {
        owners.release(torrent);
    }
    assert!(owners.files.is_empty() && owners.other_claimants.is_empty());
}

#[test]
fn one_file_under_two_names_has_one_owner() {
    let there = |inode| FileIdentity { identity: 7 << 32 | inode, inode };
    let mut owners = FileOwners::default();
    add_torrent(&mut owners, 0, A, &["A/x"]);
    add_torrent(&mut owners, 1, B, &["B/y", "B/x"]);
    let named = |number, there| (number, there, PathBuf::from("z"));
    owners.add_identities(A, [named(0, there(1))].into_iter());
    assert_eq!(owners.claim_for_writing(A), WriteAnswer::Granted);
    owners.add_identities(B, [named(0, there(2)), named(1, there(1))].into_iter());
    owners.add_identities(B, [named(1, there(1))].into_iter());
    assert_eq!(owners.claim_for_writing(B), refused(1, A));
    assert!(owners.owns(Path::new("elsewhere"), Some(there(2))) && !owners.owns(Path::new("x"), Some(there(3))));
    owners.release(A);
    assert_eq!(owners.claim_for_writing(B), WriteAnswer::Granted);
    owners.release(B);
    assert!(owners.files.is_empty() && owners.other_claimants.is_empty());
}

#[test]
fn one_file_in_two_cases_has_one_owner_where_the_file_system_numbers_files_anew() {
    for is_permanent in [false, true] {
        let there = |inode| FileIdentity { identity: u64::from(!is_permanent) << 63 | inode, inode };
        let mut owners = FileOwners::default();
        add_torrent(&mut owners, 0, A, &["A/x"]);
        add_torrent(&mut owners, 1, B, &["a/x"]);
        owners.add_identities(A, [(0, there(1), PathBuf::from("A/x"))].into_iter());
        assert_eq!(owners.claim_for_writing(A), WriteAnswer::Granted);
        owners.add_identities(B, [(0, there(2), PathBuf::from("a/x"))].into_iter());
        let refused = refused(0, A);
        assert_eq!(owners.claim_for_writing(B), if is_permanent { WriteAnswer::Granted } else { refused });
    }
}

#[test]
fn without_permanent_identity_a_torrent_file_is_known_by_name() {
    let passing = FileIdentity { identity: 1 << 63, inode: 9 };
    let lasting = FileIdentity { identity: 1, inode: 9 };
    let mut owners = FileOwners::default();
    add_torrent(&mut owners, 0, A, &["W/z.torrent", "W/b"]);
    let has = |path: &str, there| owners.owns(Path::new(path), there);
    assert!(has("out/w/Z.torrent", Some(passing)) && has("out/w/Z.torrent", None));
    assert!(!has("out/w/Z.torrent", Some(lasting)) && has("out/W/z.torrent", Some(lasting)));
    assert!(!has("out/w/b", None), "no torrent");
}
