//! The trackers of a torrent as a user edits them.

use crate::metainfo::{Magnet, Metainfo};
use crate::service::model::{ControlError, TorrentChange};
use crate::service::record::TorrentRecord;
use crate::util::cold_sort;

/// The most trackers of a torrent, and the longest URL.
const MAX_TRACKERS: usize = 512;
const MAX_URL: usize = 2048;

/// The trackers of a torrent by tier: the user's own list, or those of its metainfo or link.
pub fn tiers(record: &TorrentRecord, metainfo: Option<&Metainfo>) -> Vec<Vec<String>> {
    if let Some(own) = &record.trackers {
        return own.clone();
    }
    if let Some(metainfo) = metainfo {
        return metainfo.tiers.clone();
    }
    let link = record.link.as_deref().and_then(|link| Magnet::parse(link).ok());
    link.map_or_else(Vec::new, |link| link.trackers.into_iter().map(|tracker| vec![tracker]).collect())
}

/// Whether btsync can announce to this URL.
fn is_tracker_url(url: &str) -> bool {
    let has_scheme = ["http://", "https://", "udp://"].iter().any(|scheme| {
        url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)) && url.len() > scheme.len()
    });
    has_scheme && url.len() <= MAX_URL && !url.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// Checks trackers that a user names: their number and their URLs.
///
/// # Errors
/// If there are too many, or a URL is not one of a tracker.
pub fn check_tiers(tiers: &[Vec<String>]) -> Result<(), ControlError> {
    check_count(tiers.iter().map(Vec::len).sum())?;
    match tiers.iter().flatten().find(|url| !is_tracker_url(url)) {
        Some(bad) => {
            let bad = crate::util::redact::public_name(bad);
            Err(ControlError::Invalid(format!("not the URL of a tracker: {bad}")))
        }
        None => Ok(()),
    }
}

/// Keeps the trackers of another client's torrent that btsync can have.
pub fn keep_trackers(tiers: &mut Vec<Vec<String>>) {
    let mut left = MAX_TRACKERS;
    for tier in &mut *tiers {
        tier.retain(|url| is_tracker_url(url));
        tier.truncate(left);
        left -= tier.len();
    }
    tiers.retain(|tier| !tier.is_empty());
}

/// Checks how many trackers a change names, before each of them is looked for.
///
/// # Errors
/// If there are more than a torrent can have.
pub fn check_counts(change: &TorrentChange) -> Result<(), ControlError> {
    let replaced = change.trackers.iter().flatten().map(Vec::len).sum();
    let lengths = [replaced, change.add_trackers.len(), change.remove_trackers.len(), change.replace_trackers.len()];
    lengths.into_iter().try_for_each(check_count)
}

fn check_count(count: usize) -> Result<(), ControlError> {
    if count > MAX_TRACKERS {
        return Err(ControlError::Invalid(format!("a torrent has at most {MAX_TRACKERS} trackers")));
    }
    Ok(())
}

/// Applies the changes of a torrent's trackers to its record.
///
/// # Errors
/// If a URL is not one of a tracker, no tracker has the number, or there are too many.
pub fn change_trackers(
    record: &mut TorrentRecord,
    change: &TorrentChange,
    metainfo: Option<&Metainfo>,
) -> Result<(), ControlError> {
    let replaces = change.trackers.is_some();
    if !replaces
        && change.add_trackers.is_empty()
        && change.remove_trackers.is_empty()
        && change.replace_trackers.is_empty()
    {
        return Ok(());
    }
    check_counts(change)?;
    let mut tiers = change.trackers.clone().unwrap_or_else(|| tiers(record, metainfo));
    let numbered = |tiers: &[Vec<String>], number: u32| {
        let place = |(tier, urls): (usize, &Vec<String>)| (0..urls.len()).map(|at| (tier, at)).collect::<Vec<_>>();
        let places = tiers.iter().enumerate().flat_map(place);
        usize::try_from(number).ok().and_then(|number| places.clone().nth(number))
    };
    let unknown = |number: u32| ControlError::Invalid(format!("the torrent has no tracker {number}"));
    for (number, url) in &change.replace_trackers {
        let (tier, at) = numbered(&tiers, *number).ok_or_else(|| unknown(*number))?;
        if let Some(old) = tiers.get_mut(tier).and_then(|tier| tier.get_mut(at)) {
            old.clone_from(url);
        }
    }
    let mut removed = change.remove_trackers.clone();
    cold_sort::sort(&mut removed);
    removed.dedup();
    for number in removed.into_iter().rev() {
        let (tier, at) = numbered(&tiers, number).ok_or_else(|| unknown(number))?;
        if let Some(tier) = tiers.get_mut(tier) {
            tier.remove(at);
        }
    }
    for url in &change.add_trackers {
        if !tiers.iter().flatten().any(|known| known == url) {
            tiers.push(vec![url.clone()]);
        }
    }
    tiers.retain(|tier| !tier.is_empty());
    check_tiers(&tiers)?;
    record.trackers = Some(tiers);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::model::{TorrentId, UnixTime};
    use crate::types::InfoHash;

    fn record(tiers: &[&[&str]]) -> TorrentRecord {
        let mut record = TorrentRecord::new(TorrentId(1), InfoHash([1; 20]), "x".into(), "/x".into(), UnixTime(0));
        record.trackers = Some(tiers.iter().map(|tier| tier.iter().map(|url| (*url).to_owned()).collect()).collect());
        record
    }

    #[test]
    fn trackers_are_replaced_removed_and_added_by_number() {
        let mut it = record(&[&["http://a/announce", "http://b/announce"], &["udp://c:1"]]);
        let change = TorrentChange {
            replace_trackers: vec![(1, "https://d/announce".into())],
            remove_trackers: vec![0, 0, 2],
            add_trackers: vec!["udp://e:1".into(), "https://d/announce".into()],
            ..TorrentChange::default()
        };
        change_trackers(&mut it, &change, None).expect("changed");
        assert_eq!(it.trackers, Some(vec![vec!["https://d/announce".to_owned()], vec!["udp://e:1".to_owned()]]));
    }

    #[test]
    fn bad_urls_and_numbers_change_nothing() {
        let before = record(&[&["http://a/announce"]]);
        let bad = [
            TorrentChange { add_trackers: vec!["file:///etc/passwd".into()], ..TorrentChange::default() },
            TorrentChange { add_trackers: vec!["http://a b/".into()], ..TorrentChange::default() },
            TorrentChange { remove_trackers: vec![1], ..TorrentChange::default() },
            TorrentChange { replace_trackers: vec![(7, "http://x/announce".into())], ..TorrentChange::default() },
            TorrentChange { trackers: Some(vec![vec!["http://".into()]]), ..TorrentChange::default() },
        ];
        for change in bad {
            let mut it = before.clone();
            assert!(change_trackers(&mut it, &change, None).is_err(), "{change:?}");
            assert_eq!(it, before);
        }
    }

    #[test]
    fn more_trackers_than_a_torrent_has_are_refused_before_they_are_looked_for() {
        let mut it = record(&[&["http://a/announce"]]);
        let urls: Vec<String> = (0..=MAX_TRACKERS).map(|n| format!("udp://{n}:1")).collect();
        let known = || vec!["http://a/announce".to_owned(); MAX_TRACKERS + 1];
        let many = [
            TorrentChange { add_trackers: known(), ..TorrentChange::default() },
            TorrentChange { trackers: Some(vec![urls.clone()]), ..TorrentChange::default() },
            TorrentChange { remove_trackers: vec![0; MAX_TRACKERS + 1], ..TorrentChange::default() },
            TorrentChange {
                replace_trackers: known().into_iter().map(|url| (0, url)).collect(),
                ..TorrentChange::default()
            },
        ];
        for change in many {
            assert!(check_counts(&change).is_err() && change_trackers(&mut it, &change, None).is_err());
        }
        assert!(check_tiers(&[urls[1..].to_vec()]).is_ok() && check_tiers(&[urls]).is_err());
        assert!(check_tiers(&[vec!["udp://a".to_owned() + &"b".repeat(MAX_URL)]]).is_err());
    }

    #[test]
    fn a_link_has_trackers_before_its_metainfo_is_known() {
        let mut it = record(&[]);
        it.trackers = None;
        it.link = Some(format!("magnet:?xt=urn:btih:{}&tr=udp%3A%2F%2Fa%3A1", "a".repeat(40)));
        assert_eq!(tiers(&it, None), [["udp://a:1"]]);
    }
}
