//! The rules of ownership one by one, then over all possible facts.

use proptest::prelude::*;

use super::*;

const DATA: Evidence = Evidence {
    has_data: true,
    has_data_past_end: false,
    verified: 0,
    failed: 1,
    unhashable: 0,
    partial: 0,
    fits_earlier_run: false,
    seems_whole: false,
    has_part_file: false,
    may_be_right: false,
};

fn facts(evidence: Evidence) -> FileFacts {
    FileFacts {
        is_wanted: true,
        is_complete: false,
        is_ours: false,
        claim: OwnershipClaim::None,
        found: Some(ExistingFile { links: 1, is_link: false, evidence }),
    }
}

#[test]
fn a_file_that_is_not_there_is_made_where_it_is_wanted() {
    let absent = FileFacts { found: None, ..facts(DATA) };
    assert_eq!(decide(&absent, false), Ok(FileAction::Create));
    assert_eq!(decide(&FileFacts { is_wanted: false, ..absent }, true), Ok(FileAction::Leave));
}

#[test]
fn a_file_with_data_of_somebody_else_is_refused_unless_overwrite_is_set() {
    assert_eq!(decide(&facts(DATA), false), Err(Refusal::Foreign));
    assert_eq!(decide(&facts(DATA), true), Ok(FileAction::Continue));
    let unwanted = FileFacts { is_wanted: false, ..facts(DATA) };
    assert_eq!([false, true].map(|overwrite| decide(&unwanted, overwrite)), [Ok(FileAction::Ignore); 2]);
}

#[test]
fn more_right_pieces_than_wrong_ones_are_the_torrents_and_as_many_are_not() {
    for (verified, failed, unhashable, expected) in [
        (2, 1, 0, Ok(FileAction::Continue)),
        (1, 0, 0, Ok(FileAction::Continue)),
        (1, 1, 0, Err(Refusal::Foreign)),
        (0, 0, 0, Err(Refusal::Foreign)),
        (1, 0, 1, Err(Refusal::Foreign)),
        (3, 1, 1, Ok(FileAction::Continue)),
    ] {
        let evidence = Evidence { verified, failed, unhashable, ..DATA };
        assert_eq!(decide(&facts(evidence), false), expected, "{verified} {failed} {unhashable}");
    }
}

#[test]
fn a_download_that_the_records_name_is_resumed_if_a_piece_verifies() {
    let counts = |claim, verified, failed, partial| {
        decide(&FileFacts { claim, ..facts(Evidence { verified, failed, partial, ..DATA }) }, false)
            == Ok(FileAction::Continue)
    };
    assert!(counts(OwnershipClaim::MadeButReusable, 1, 9, 9) && counts(OwnershipClaim::MadeButReusable, 2, 9, 8));
    assert!(
        !counts(OwnershipClaim::MadeButReusable, 1, 9, 8) && !counts(OwnershipClaim::MadeButReusable, 0, 9, 9),
        "its number may have been given again"
    );
    assert!(counts(OwnershipClaim::StartedHere, 1, 9, 9) && counts(OwnershipClaim::StartedHere, 2, 9, 8));
    assert!(
        !counts(OwnershipClaim::StartedHere, 1, 9, 8) && !counts(OwnershipClaim::StartedHere, 0, 9, 9),
        "the user may have changed it"
    );
    assert!(!counts(OwnershipClaim::None, 1, 9, 9), "a disk image may have such pieces");
    let long = Evidence { has_data_past_end: true, verified: 9, ..DATA };
    assert_eq!(
        decide(&FileFacts { claim: OwnershipClaim::MadeButReusable, ..facts(long) }, false),
        Err(Refusal::Longer)
    );
    let mut linked =
        FileFacts { claim: OwnershipClaim::MadeButReusable, ..facts(Evidence { verified: 9, failed: 0, ..DATA }) };
    linked.found = linked.found.map(|found| ExistingFile { links: 2, ..found });
    assert_eq!(decide(&linked, false), Err(Refusal::Linked));
}

#[test]
fn a_file_that_btsync_made_is_resumed_unless_its_complete_pieces_fail() {
    let counts = |verified, failed, unhashable, partial| {
        let evidence = Evidence { verified, failed, unhashable, partial, ..DATA };
        decide(&FileFacts { claim: OwnershipClaim::MadeButChanged, ..facts(evidence) }, false)
    };
    for going_on in [counts(0, 3, 1, 4), counts(2, 1, 0, 0), counts(9, 1, 7, 0), counts(1, 9, 0, 9)] {
        assert_eq!(going_on, Ok(FileAction::Continue));
    }
    for foreign in [counts(0, 1, 0, 0), counts(0, 4, 0, 3), counts(1, 1, 0, 0), counts(0, 0, 1, 0)] {
        assert_eq!(foreign, Err(Refusal::Foreign));
    }
    let empty = FileFacts { claim: OwnershipClaim::MadeButChanged, ..facts(Evidence::default()) };
    assert_eq!(decide(&empty, false), Ok(FileAction::Continue));
    let refused = FileFacts { claim: OwnershipClaim::Refused, ..facts(Evidence { verified: 9, failed: 1, ..DATA }) };
    assert_eq!(
        [decide(&refused, false), decide(&refused, true)],
        [Err(Refusal::EditedEarlier), Ok(FileAction::Continue)]
    );
}

#[test]
fn a_file_of_zeros_is_nobodys() {
    // Another download may have made it, and would later take our data for its own.
    assert_eq!(decide(&facts(Evidence::default()), false), Ok(FileAction::ReplaceEmpty));
    assert_eq!(decide(&FileFacts { is_ours: true, ..facts(Evidence::default()) }, false), Ok(FileAction::Continue));
}

#[test]
fn a_link_is_never_replaced_unasked_and_its_target_is_never_overwritten() {
    let link = |evidence| {
        let it = facts(evidence);
        FileFacts { found: it.found.map(|found| ExistingFile { is_link: true, ..found }), ..it }
    };
    assert_eq!(decide(&link(Evidence::default()), false), Err(Refusal::LinkToEmpty));
    for evidence in [Evidence::default(), DATA, Evidence { has_data_past_end: true, ..DATA }] {
        assert_eq!(decide(&link(evidence), true), Ok(FileAction::Copy), "{evidence:?}");
    }
    assert_eq!(decide(&FileFacts { is_complete: true, ..link(DATA) }, true), Ok(FileAction::Leave));
}

#[test]
fn data_behind_the_end_is_never_cut_off_however_much_before_it_is_right() {
    let long = facts(Evidence { has_data_past_end: true, verified: 9, failed: 0, ..DATA });
    assert_eq!(decide(&long, false), Err(Refusal::Longer));
    assert_eq!(decide(&FileFacts { is_complete: true, ..long }, true), Ok(FileAction::Leave), "seeded as it is");
    assert_eq!(
        decide(&FileFacts { is_ours: true, ..long }, false),
        Err(Refusal::Longer),
        "btsync writes nothing there"
    );
    assert_eq!(decide(&FileFacts { claim: OwnershipClaim::MadeButChanged, ..long }, false), Err(Refusal::Longer));
}

#[test]
fn a_file_with_other_names_is_copied_at_the_most() {
    let mut linked = facts(Evidence { verified: 9, failed: 0, ..DATA });
    linked.found = linked.found.map(|found| ExistingFile { links: 2, ..found });
    assert_eq!(decide(&linked, false), Err(Refusal::Linked));
    assert_eq!(decide(&linked, true), Ok(FileAction::Copy));
    let ours = FileFacts { is_ours: true, ..linked };
    assert_eq!(
        [decide(&ours, false), decide(&ours, true)],
        [Err(Refusal::Linked), Ok(FileAction::Copy)],
        "a library's, too"
    );
    assert_eq!(decide(&FileFacts { is_complete: true, ..linked }, true), Ok(FileAction::Leave));
}

/// Blocks from peers would overwrite its bytes in the pieces that cannot be hashed, before anything is verified.
#[test]
fn a_file_whose_other_pieces_verify_is_compared_and_not_written_to() {
    let right = Evidence { verified: 9, failed: 0, unhashable: 1, may_be_right: true, ..DATA };
    assert_eq!(decide(&facts(right), false), Ok(FileAction::Compare));
    assert_eq!(decide(&facts(right), true), Ok(FileAction::Continue));
    for claim in [OwnershipClaim::StartedHere, OwnershipClaim::MadeButReusable, OwnershipClaim::MadeButChanged] {
        assert_eq!(decide(&FileFacts { claim, ..facts(right) }, false), Ok(FileAction::Continue), "{claim:?}");
    }
    assert_eq!(decide(&FileFacts { is_ours: true, ..facts(right) }, false), Ok(FileAction::Continue));
    assert_eq!(decide(&facts(Evidence { has_part_file: true, ..right }), false), Ok(FileAction::Continue));
    let repaired = Evidence { failed: 1, may_be_right: false, ..right };
    assert_eq!(decide(&facts(repaired), false), Ok(FileAction::Continue));
}

#[test]
fn a_file_that_may_be_right_is_compared_and_not_written_to() {
    let mut facts = facts(Evidence { failed: 0, may_be_right: true, ..DATA });
    assert_eq!(decide(&facts, false), Ok(FileAction::Compare));
    assert_eq!(decide(&facts, true), Ok(FileAction::Continue));
    facts.found = facts.found.map(|found| ExistingFile { links: 2, ..found });
    assert_eq!(decide(&facts, false), Ok(FileAction::Compare));
    facts.is_wanted = false;
    assert_eq!(decide(&facts, false), Ok(FileAction::Ignore));
}

/// The user may have changed it on purpose, and excluded it for that reason.
#[test]
fn a_file_that_is_not_wanted_and_not_ours_is_never_written_to() {
    let unwanted = |evidence| FileFacts { is_wanted: false, ..facts(evidence) };
    let edited = Evidence { verified: 9, failed: 1, ..DATA };
    let beside_part_file = Evidence { failed: 0, unhashable: 1, may_be_right: true, has_part_file: true, ..edited };
    for evidence in [edited, beside_part_file, Evidence { failed: 20, ..edited }] {
        assert_eq!([false, true].map(|overwrite| decide(&unwanted(evidence), overwrite)), [Ok(FileAction::Compare); 2]);
    }
    for evidence in [DATA, Evidence::default(), Evidence { has_data_past_end: true, ..DATA }] {
        assert_eq!([false, true].map(|overwrite| decide(&unwanted(evidence), overwrite)), [Ok(FileAction::Ignore); 2]);
    }
    for claim in [OwnershipClaim::StartedHere, OwnershipClaim::MadeButReusable, OwnershipClaim::MadeButChanged] {
        let ours = FileFacts { claim, ..unwanted(edited) };
        assert_eq!(decide(&ours, false), Ok(FileAction::Continue), "{claim:?}");
    }
    assert_eq!(decide(&FileFacts { is_ours: true, ..unwanted(edited) }, false), Ok(FileAction::Continue));
    let moved = Evidence { fits_earlier_run: true, ..DATA };
    assert_eq!(decide(&unwanted(moved), false), Ok(FileAction::Continue));
}

/// A stranger's marker can name any times.
#[test]
fn a_file_that_only_times_call_ours_is_written_to_only_if_it_lacks_data() {
    let fits = Evidence { fits_earlier_run: true, ..DATA };
    assert_eq!(decide(&facts(fits), false), Ok(FileAction::Continue));
    let whole = facts(Evidence { seems_whole: true, ..fits });
    assert_eq!([decide(&whole, false), decide(&whole, true)], [Ok(FileAction::Compare), Ok(FileAction::Continue)]);
    let started = FileFacts { claim: OwnershipClaim::StartedHere, ..whole };
    assert_eq!(decide(&started, false), Ok(FileAction::Continue), "the marker or the resume data knows the very file");
}

fn any_facts() -> impl Strategy<Value = FileFacts> {
    let evidence =
        (any::<bool>(), any::<bool>(), 0u32..6, 0u32..4, 0u32..3, 0u32..6, any::<(bool, bool, bool, bool)>());
    let evidence = evidence.prop_map(
        |(data, behind, verified, failed, unhashable, partial, (may_be_right, fits, seems_whole, has_part_file))| {
            Evidence {
                has_data: data || behind || verified > 0 || failed > 0,
                has_data_past_end: behind,
                verified,
                failed,
                unhashable,
                partial: partial.min(failed + unhashable),
                fits_earlier_run: fits,
                seems_whole,
                has_part_file,
                may_be_right: may_be_right && failed == 0 && !behind,
            }
        },
    );
    let found = (1u64..4, any::<bool>(), evidence).prop_map(|(links, is_link, evidence)| ExistingFile {
        links,
        is_link,
        evidence,
    });
    let claim = prop_oneof![
        Just(OwnershipClaim::None),
        Just(OwnershipClaim::StartedHere),
        Just(OwnershipClaim::MadeButReusable),
        Just(OwnershipClaim::MadeButChanged),
        Just(OwnershipClaim::Refused)
    ];
    (any::<bool>(), any::<bool>(), any::<bool>(), claim, prop::option::of(found)).prop_map(
        |(is_wanted, is_complete, is_ours, claim, found)| FileFacts { is_wanted, is_complete, is_ours, claim, found },
    )
}

proptest! {
    #[test]
    fn nothing_is_ever_written_that_is_not_ours(facts in any_facts()) {
        let decided = decide(&facts, false);
        if let (Some(found), Ok(FileAction::Continue)) = (facts.found, decided) {
            let Evidence { has_data, has_data_past_end, verified, failed, unhashable, partial, .. } = found.evidence;
            let is_plain = found.links == 1 && !has_data_past_end;
            let has_right = has_data && verified > 0;
            let proven = match facts.claim {
                OwnershipClaim::None => has_right && verified > failed + unhashable,
                OwnershipClaim::StartedHere => has_right && verified + partial > failed + unhashable,
                OwnershipClaim::MadeButReusable => has_right && verified + partial > failed,
                OwnershipClaim::MadeButChanged => failed + unhashable <= partial || verified + partial > failed + unhashable,
                OwnershipClaim::Refused => false,
            };
            let is_whole = found.evidence.seems_whole && facts.claim == OwnershipClaim::None;
            let fits = found.evidence.fits_earlier_run && facts.claim != OwnershipClaim::Refused && !is_whole;
            prop_assert!(is_plain && (facts.is_ours || proven || fits));
            prop_assert!(facts.is_wanted || facts.is_ours || facts.claim != OwnershipClaim::None || fits);
        }
        if let Some(found) = facts.found.filter(|_| decided == Ok(FileAction::ReplaceEmpty)) {
            prop_assert!(!facts.is_ours && !found.evidence.has_data && !found.evidence.has_data_past_end && found.links == 1);
        }
        prop_assert_ne!(decided, Ok(FileAction::Copy));
        // If the user allows overwriting, nothing is refused, and a hard-linked file is still not written to.
        let given = decide(&facts, true);
        prop_assert!(given.is_ok());
        if facts.found.is_some_and(|found| found.links > 1) {
            prop_assert_ne!(given, Ok(FileAction::Continue));
        }
    }

    #[test]
    fn complete_files_are_left_alone_and_only_missing_ones_are_created(facts in any_facts(), overwrite: bool) {
        let decided = decide(&facts, overwrite);
        prop_assert_eq!(decided == Ok(FileAction::Create), facts.found.is_none() && facts.is_wanted);
        if facts.is_complete && facts.found.is_some() {
            prop_assert_eq!(decided, Ok(FileAction::Leave));
        }
        if !facts.is_wanted {
            prop_assert!(decided.is_ok(), "a file that nobody wants stops nothing");
        }
        if decided == Ok(FileAction::Leave) {
            prop_assert!(facts.is_complete || facts.found.is_none());
        }
    }
}
