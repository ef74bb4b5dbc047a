//! Other programs' files that have the part file's name.

use super::*;
use crate::storage::DecisionInput;

/// Another client of the same torrent starts while ours checks the files, and its part file has the same name.
#[test]
fn a_part_file_that_another_program_made_meanwhile_stays_as_it_is() {
    let (layout, no) = (layout(), AtomicBool::new(false));
    let wanted = [true, false, true, true, true, true, true];
    let place = |dir: &TempDir| dir.path().join(PARTS);
    for is_replaced in [false, true] {
        let dir = tempdir().unwrap();
        if is_replaced {
            fs::write(place(&dir), "ours").unwrap();
        }
        let mut it = Storage::new(dir.path().to_owned(), layout.clone(), 2).select(&wanted, Path::new(PARTS));
        let survey = it.survey(&no).unwrap();
        let actions: Vec<FileAction> =
            (0..7).map(|file| if it.wants(file) { FileAction::Create } else { FileAction::Leave }).collect();
        let mut made = survey.clone();
        it.create_files(&actions, &mut made, &no).unwrap();
        it.record_ownership(&InfoHash([1; 20]), &actions, &made, false).unwrap();
        // The creation time distinguishes files, and the system counts it in ticks.
        let theirs = dir.path().join("theirs");
        let born = |path: &Path| fs::metadata(path).and_then(|found| found.created()).ok();
        while is_replaced && born(&theirs) <= born(&place(&dir)) {
            let _ = fs::remove_file(&theirs);
            fs::write(&theirs, "").unwrap();
        }
        fs::write(&theirs, "their part file").unwrap();
        fs::rename(&theirs, place(&dir)).unwrap();
        it.resize_files(&actions, &made, &no).unwrap();
        let written = it.write_vectored_at(14, &[IoSlice::new(b"bbb")]);
        assert!(matches!(written, Err(StorageError::InTheWay { why: Refusal::Appeared, .. })), "{written:?}");
        it.remove_part_file();
        assert_eq!(fs::read(place(&dir)).unwrap(), b"their part file");
        assert!(survey.differs(&it.survey(&no).unwrap()).is_some(), "it is found out before anything is written");
    }
    // Everything is wanted, so the part file is not needed: btsync removes it only if it is btsync's.
    let dir = tempdir().unwrap();
    let it = Storage::new(dir.path().to_owned(), layout, 2).select(&[], Path::new(PARTS));
    let mut survey = it.survey(&no).unwrap();
    let actions = [FileAction::Create; 7];
    fs::write(place(&dir), "their part file").unwrap();
    it.create_files(&actions[..2], &mut survey, &no).unwrap();
    it.resize_files(&actions, &survey, &no).unwrap();
    assert_eq!(fs::read(place(&dir)).unwrap(), b"their part file");
}

#[test]
fn a_link_that_takes_the_part_files_name_meanwhile_is_not_followed() {
    let (dir, no) = (tempdir().unwrap(), AtomicBool::new(false));
    fs::write(dir.path().join("mine"), "precious").unwrap();
    let it = Storage::new(dir.path().to_owned(), layout(), 2).select(&[true, false], Path::new(PARTS));
    std::os::unix::fs::symlink("mine", dir.path().join(PARTS)).unwrap();
    let refused = it.survey(&no);
    assert!(matches!(refused, Err(StorageError::InTheWay { why: Refusal::Appeared, .. })), "{refused:?}");
}

/// Wanted files are created, or continued if they exist.
fn actions(it: &Storage, survey: &Survey) -> Vec<FileAction> {
    let action = |file: usize| match survey.file(file) {
        _ if !it.wants(file) || it.layout().files()[file].is_pad => FileAction::Leave,
        Some(_) => FileAction::Continue,
        None => FileAction::Create,
    };
    (0..7).map(action).collect()
}

/// The decision about a part file by the pieces whose bytes it holds: `content` is the slots of pieces 1 and 3.
fn decided(
    content: &[u8],
    wanted: &[bool],
    may_overwrite: bool,
) -> (TempDir, Storage, Result<FileAction, StorageError>) {
    let (dir, no) = (tempdir().unwrap(), AtomicBool::new(false));
    let bytes = payload(&layout());
    fs::write(dir.path().join("a"), &bytes[..14]).unwrap();
    fs::create_dir(dir.path().join("x")).unwrap();
    fs::write(dir.path().join("x/d"), &bytes[30..35]).unwrap();
    fs::write(dir.path().join(PARTS), content).unwrap();
    let it = Storage::new(dir.path().to_owned(), layout(), 2).select(wanted, Path::new(PARTS));
    let survey = it.survey(&no).unwrap();
    let have = found(&it);
    let actions = actions(&it, &survey);
    let input = DecisionInput {
        survey: &survey,
        hashes: &hashes(&layout()),
        have: &have,
        wanted: &it.wanted_pieces(),
        ours: &|_, _| false,
        claim: &|_, _| crate::storage::OwnershipClaim::None,
        of_earlier_run: &|_, _| false,
        vouched: &|_, _| false,
        may_overwrite,
        stop: &no,
    };
    let decided = it.decide_part_file(&input, &actions, false);
    (dir, it, decided)
}

#[test]
fn a_part_file_is_ours_by_its_pieces_and_anothers_is_neither_written_nor_removed() {
    let bytes = payload(&layout());
    let slots = |first: &[u8], second: &[u8]| [&[0; 4][..], first, &[0; 8], second, &[0; 2]].concat();
    let right = slots(&bytes[14..17], &bytes[35..38]);
    assert_eq!(right.len(), 20);
    let mut both = right.clone();
    both[15..].copy_from_slice(&bytes[35..40]);
    let one = slots(&bytes[14..17], &[]);
    let mixed = slots(&bytes[14..17], b"zzz");
    // As version 0.1.0 left it, which wrote no marker: `d/b` and `x/f` are wanted now, or another file is.
    for wanted in [vec![true; 7], only(&["a", "x/d", "c"]), only(&["a", "d/b"])] {
        for content in [&both, &one] {
            assert!(matches!(decided(content, &wanted, false).2, Ok(FileAction::Continue)), "{wanted:?}");
        }
    }
    let needs = only(&["a", "x/d"]);
    for content in [b"the user's notes, twenty bytes and more".to_vec(), mixed] {
        let (dir, _, refused) = decided(&content, &needs, false);
        assert!(matches!(refused, Err(StorageError::InTheWay { why: Refusal::Foreign, .. })), "{refused:?}");
        assert_eq!(fs::read(dir.path().join(PARTS)).unwrap(), content);
        assert!(matches!(decided(&content, &needs, true).2, Ok(FileAction::ReplaceEmpty)));
        // If everything is wanted, the part file is not needed, and stays.
        let (dir, it, decided) = decided(&content, &[true; 7], false);
        assert!(matches!(decided, Ok(FileAction::Leave)), "{decided:?}");
        let no = AtomicBool::new(false);
        let mut survey = it.survey(&no).unwrap();
        let actions = actions(&it, &survey);
        it.create_files(&actions, &mut survey, &no).unwrap();
        it.resize_files(&actions, &survey, &no).unwrap();
        it.remove_part_file();
        assert_eq!(fs::read(dir.path().join("d/b")).unwrap(), [0; 3], "nothing comes out of it");
        assert_eq!(fs::metadata(dir.path().join("x/f")).unwrap().len(), 8);
        assert_eq!(fs::read(dir.path().join(PARTS)).unwrap(), content);
    }
}

#[test]
fn a_part_file_without_data_gives_its_name_to_a_new_one_that_the_marker_names() {
    let (dir, mut it, decided) = decided(&[0; 30], &only(&["a", "x/d", "c"]), false);
    let no = AtomicBool::new(false);
    assert!(matches!(decided, Ok(FileAction::ReplaceEmpty)), "{decided:?}");
    let mut survey = it.survey(&no).unwrap();
    let before = survey.part_file.unwrap();
    it.lock(&InfoHash([1; 20])).unwrap();
    it.create_part_file(FileAction::ReplaceEmpty, &mut survey).unwrap();
    let actions = actions(&it, &survey);
    it.create_files(&actions, &mut survey, &no).unwrap();
    it.record_ownership(&InfoHash([1; 20]), &actions, &survey, false).unwrap();
    it.resize_files(&actions, &survey, &no).unwrap();
    let now = survey.part_file.unwrap();
    assert!(now.size == 0 && before.size == 30);
    assert!(it.read_marker(&InfoHash([1; 20])).unwrap().unwrap().is_unfinished_file(Path::new(PARTS), now.identity));
    write_all(&it, &[1, 3]);
    assert_eq!(found_pieces(&it), [0, 1, 3]);
    assert!(it.writable_files().iter().any(|(file, identity)| *file == 7 && *identity == now.identity));
    // The part file alone needs no marker.
    it.finish(&Bitfield::full(5)).unwrap();
    assert!(it.read_marker(&InfoHash([1; 20])).unwrap().is_none() && dir.path().join(PARTS).exists());
}
