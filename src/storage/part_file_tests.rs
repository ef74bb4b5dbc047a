//! Files of other programs that have the part file's name.

use super::*;

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
        let steps: Vec<Step> = (0..7).map(|file| if it.wants(file) { Step::Make } else { Step::Leave }).collect();
        let mut made = survey.clone();
        it.make(&steps, &mut made, &no).unwrap();
        it.mark(&InfoHash([1; 20]), &steps, &made, false).unwrap();
        // Files are told apart by the time when they were made, which the system counts in ticks.
        let theirs = dir.path().join("theirs");
        let born = |path: &Path| fs::metadata(path).and_then(|found| found.created()).ok();
        while is_replaced && born(&theirs) <= born(&place(&dir)) {
            let _ = fs::remove_file(&theirs);
            fs::write(&theirs, "").unwrap();
        }
        fs::write(&theirs, "their part file").unwrap();
        fs::rename(&theirs, place(&dir)).unwrap();
        it.settle(&steps, &made, &no).unwrap();
        let written = it.write_vectored_at(14, &[IoSlice::new(b"bbb")]);
        assert!(matches!(written, Err(StorageError::InTheWay { why: Refusal::Appeared, .. })), "{written:?}");
        it.remove_parts();
        assert_eq!(fs::read(place(&dir)).unwrap(), b"their part file");
        assert!(survey.differs(&it.survey(&no).unwrap()).is_some(), "it is found out before anything is written");
    }
    // All is wanted, and the part file is not needed: it is removed only where it is ours.
    let dir = tempdir().unwrap();
    let it = Storage::new(dir.path().to_owned(), layout, 2).select(&[], Path::new(PARTS));
    let mut survey = it.survey(&no).unwrap();
    let steps = [Step::Make; 7];
    fs::write(place(&dir), "their part file").unwrap();
    it.make(&steps[..2], &mut survey, &no).unwrap();
    it.settle(&steps, &survey, &no).unwrap();
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
