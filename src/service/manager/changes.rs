//! Changes of torrents, of their order in the queue, and of the settings.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::metainfo::Metainfo;
use crate::peer::LimitGroup;
use crate::service::manager::Manager;
use crate::service::manager::client::port_mapping;
use crate::service::manager::file_operations::check_no_job;
use crate::service::metainfo_summary::{real_files, wanted_bytes};
use crate::service::model::{
    BandwidthGroup, ControlError, FileIndexes, TorrentChange, TorrentId, TorrentSettings, UnixTime,
};
use crate::service::rate_limit::rate_limits;
use crate::service::record::{FileChoices, TorrentRecord};
use crate::service::schedule::{LocalTime, is_alt_speed_scheduled};
use crate::service::settings::{SettingsChange, set};
use crate::service::text_limits::{MAX_LABEL, MAX_LABELS, check_group};
use crate::service::trackers::{change_trackers, check_tiers};
use crate::torrent::FilePriority;

/// The most bandwidth groups.
const MAX_GROUPS: usize = 256;

impl Manager {
    /// Changes torrents.
    pub(super) fn change_torrents(&mut self, ids: &[TorrentId], change: &TorrentChange) -> Result<(), ControlError> {
        let changes_files =
            [&change.wanted, &change.unwanted, &change.priority_high, &change.priority_normal, &change.priority_low];
        let changes_files = changes_files.iter().any(|files| !files.is_none());
        let changes_trackers = change.trackers.is_some()
            || !change.add_trackers.is_empty()
            || !change.remove_trackers.is_empty()
            || !change.replace_trackers.is_empty();
        let mut records = Vec::new();
        for id in ids.iter().collect::<BTreeSet<_>>() {
            let Some(torrent) = self.torrents.get(id) else { continue };
            let mut record = torrent.record.clone();
            if let Some(folder) = change.folder.as_ref().filter(|folder| **folder != record.folder) {
                check_no_job(torrent)?;
                record.use_folder(folder);
            }
            let needs_metainfo = record.metainfo.is_some() && (changes_files || changes_trackers);
            let metainfo = if needs_metainfo { self.control.metainfo(&record) } else { None };
            Manager::apply(&mut record, change, metainfo.as_deref())?;
            record.times.edited = UnixTime::now();
            records.push(record);
        }
        let saved = self.save_changed_records(records);
        for id in ids {
            self.apply_live(*id);
            if changes_trackers {
                self.apply_trackers(*id);
            }
        }
        saved?;
        if let Some(position) = change.queue_position {
            self.set_queue_position(ids, position)?;
        }
        Ok(())
    }

    /// Applies a change to a record, except the folder, without saving it.
    pub(super) fn apply(
        record: &mut TorrentRecord,
        change: &TorrentChange,
        metainfo: Option<&Metainfo>,
    ) -> Result<(), ControlError> {
        apply_settings(&mut record.settings, change)?;
        change_trackers(record, change, metainfo)?;
        if let Some(metainfo) = metainfo {
            choose_files(record, change, metainfo)?;
        }
        Ok(())
    }

    /// Applies what can change while a torrent runs.
    pub(super) fn apply_live(&mut self, id: TorrentId) {
        let Some(torrent) = self.torrents.get(&id) else { return };
        let group = torrent.record.settings.group.clone();
        let group = self.group(&group);
        let Some(torrent) = self.torrents.get(&id) else { return };
        let Some(handle) = torrent.handle() else { return };
        let settings = &torrent.record.settings;
        handle.set_torrent_limits(rate_limits(settings.down_limit, settings.up_limit));
        handle.ignore_client_limits(!settings.honors_session_limits);
        handle.set_max_peers(usize::from(settings.peer_limit));
        handle.set_sequential(settings.is_sequential);
        handle.set_priorities(priorities(&torrent.record.files));
        handle.set_limit_group(group);
    }

    /// Tells a running torrent its trackers.
    fn apply_trackers(&self, id: TorrentId) {
        let Some(torrent) = self.torrents.get(&id) else { return };
        if let Some((guard, _)) = &torrent.guard {
            match self.trackers_for_dormant(&torrent.record) {
                Ok(tiers) => guard.set_trackers(&tiers),
                Err(error) => log::error!("{}", error.why),
            }
        }
        if let (Some(handle), Some(own)) = (torrent.handle(), &torrent.record.trackers) {
            let is_private = torrent.record.metainfo.as_ref().is_some_and(|metainfo| metainfo.is_private);
            handle.set_trackers([own, self.default_trackers(is_private)].concat());
        }
    }

    /// The trackers of the settings, which every torrent has that is not private.
    pub(super) fn default_trackers(&self, is_private: bool) -> &[Vec<String>] {
        if is_private { &[] } else { &self.settings.default_trackers }
    }

    /// Changes the settings.
    pub(super) fn change_settings(&mut self, change: &SettingsChange) -> Result<(), ControlError> {
        change.default_trackers.as_deref().map_or(Ok(()), check_tiers)?;
        let before = self.settings.clone();
        self.settings.apply(change);
        if let Err(error) = self.state_folder.save_settings(&self.settings) {
            self.settings = before;
            return Err(ControlError::System(error.to_string()));
        }
        if self.settings.network.needs_new_client(&before.network) {
            self.client.is_outdated = true;
        }
        if self.settings.alternative.is_scheduled && !before.alternative.is_scheduled {
            self.limits.was_alt_speed_scheduled = false;
            self.follow_schedule();
        }
        self.apply_session_limits();
        self.apply_port_mapping();
        self.control.block_list.apply(&self.settings.block_list);
        self.publish_settings();
        Ok(())
    }

    /// Turns the alternative limits on or off where the schedule's span begins or ends.
    pub(super) fn follow_schedule(&mut self) {
        let alternative = &self.settings.alternative;
        if !alternative.is_scheduled {
            return;
        }
        let is_alt_speed_scheduled = is_alt_speed_scheduled(alternative, LocalTime::now(UnixTime::now().0));
        if is_alt_speed_scheduled == self.limits.was_alt_speed_scheduled {
            return;
        }
        self.limits.was_alt_speed_scheduled = is_alt_speed_scheduled;
        self.settings.alternative.is_enabled = is_alt_speed_scheduled;
        if let Err(error) = self.state_folder.save_settings(&self.settings) {
            log::error!("{error}");
        }
        self.apply_session_limits();
        self.publish_settings();
    }

    /// Tells the client the limits in force.
    pub(super) fn apply_session_limits(&self) {
        if let Some(client) = &self.client.current {
            client.set_limits(self.settings.limits());
        }
    }

    /// Tells the client whether it asks the router to forward the port.
    fn apply_port_mapping(&self) {
        if let Some(client) = &self.client.current {
            client.set_port_mapping(port_mapping(&self.settings.network, &self.control.base));
        }
    }

    /// The limits of a bandwidth group that torrents share.
    pub(super) fn group(&mut self, name: &str) -> Option<Arc<LimitGroup>> {
        let group = self.session.groups.iter().find(|group| group.name == name)?;
        let limits = rate_limits(group.down_limit, group.up_limit);
        let shared = self.limits.groups.entry(name.to_owned()).or_insert_with(|| Arc::new(LimitGroup::new(limits)));
        shared.set(limits);
        shared.set_ignores_client(!group.honors_session_limits);
        Some(shared.clone())
    }

    /// Creates or changes a bandwidth group.
    pub(super) fn set_group(&mut self, group: BandwidthGroup) -> Result<(), ControlError> {
        if group.name.is_empty() {
            return Err(ControlError::Invalid("a bandwidth group needs a name".to_owned()));
        }
        check_group(&group.name)?;
        let (before, name) = (self.session.groups.clone(), group.name.clone());
        let groups = &mut self.session.groups;
        match groups.iter_mut().find(|known| known.name == name) {
            Some(known) => *known = group,
            None if before.len() >= MAX_GROUPS => {
                return Err(ControlError::Invalid(format!("there are {MAX_GROUPS} groups already")));
            }
            None => groups.push(group),
        }
        if let Err(error) = self.save_session() {
            self.session.groups = before;
            return Err(error);
        }
        self.group(&name);
        self.publish_settings();
        Ok(())
    }
}

/// The files that come before or after the others.
pub(super) fn priorities(files: &FileChoices) -> Vec<(u32, FilePriority)> {
    let high = files.high.iter().map(|index| (*index, FilePriority::High));
    high.chain(files.low.iter().map(|index| (*index, FilePriority::Low))).collect()
}

fn apply_settings(settings: &mut TorrentSettings, change: &TorrentChange) -> Result<(), ControlError> {
    let is_label = |label: &String| label.len() <= MAX_LABEL && !label.contains(',');
    if change.labels.as_ref().is_some_and(|labels| labels.len() > MAX_LABELS || !labels.iter().all(is_label)) {
        return Err(ControlError::Invalid(format!(
            "at most {MAX_LABELS} labels of {MAX_LABEL} bytes each, without commas"
        )));
    }
    change.group.as_deref().map_or(Ok(()), check_group)?;
    set(&mut settings.down_limit.kilobytes, change.down_limit.as_ref());
    set(&mut settings.down_limit.is_enabled, change.is_down_limited.as_ref());
    set(&mut settings.up_limit.kilobytes, change.up_limit.as_ref());
    set(&mut settings.up_limit.is_enabled, change.is_up_limited.as_ref());
    set(&mut settings.honors_session_limits, change.honors_session_limits.as_ref());
    set(&mut settings.bandwidth_priority, change.bandwidth_priority.as_ref());
    set(&mut settings.peer_limit, change.peer_limit.as_ref());
    set(&mut settings.seed_ratio_mode, change.seed_ratio_mode.as_ref());
    set(&mut settings.seed_ratio, change.seed_ratio.filter(|ratio| ratio.is_finite()).as_ref());
    set(&mut settings.seed_idle_mode, change.seed_idle_mode.as_ref());
    set(&mut settings.seed_idle_minutes, change.seed_idle_minutes.as_ref());
    set(&mut settings.is_sequential, change.is_sequential.as_ref());
    set(&mut settings.labels, change.labels.as_ref());
    set(&mut settings.group, change.group.as_ref());
    Ok(())
}

fn choose_files(record: &mut TorrentRecord, change: &TorrentChange, metainfo: &Metainfo) -> Result<(), ControlError> {
    let real = real_files(metainfo);
    let indexes = |files: &FileIndexes| -> Result<Vec<u32>, ControlError> {
        match files {
            FileIndexes::None => Ok(Vec::new()),
            FileIndexes::All => Ok(real.clone()),
            FileIndexes::Some(numbers) => {
                let index = |number: &u32| {
                    let found = usize::try_from(*number).ok().and_then(|number| real.get(number)).copied();
                    found.ok_or_else(|| ControlError::Invalid(format!("the torrent has no file {number}")))
                };
                numbers.iter().map(index).collect()
            }
        }
    };
    let add = |to: &mut Vec<u32>, which: &[u32]| {
        let all: BTreeSet<u32> = to.iter().chain(which).copied().collect();
        *to = all.into_iter().collect();
    };
    let remove = |from: &mut Vec<u32>, which: &[u32]| {
        let which: BTreeSet<u32> = which.iter().copied().collect();
        from.retain(|index| !which.contains(index));
    };
    let (wanted, unwanted) = (indexes(&change.wanted)?, indexes(&change.unwanted)?);
    let before = record.files.unwanted.clone();
    remove(&mut record.files.unwanted, &wanted);
    add(&mut record.files.unwanted, &unwanted);
    let [high, normal, low] = [&change.priority_high, &change.priority_normal, &change.priority_low].map(indexes);
    let (high, normal, low) = (high?, normal?, low?);
    let others: Vec<u32> = normal.iter().chain(&low).copied().collect();
    remove(&mut record.files.high, &others);
    let others: Vec<u32> = normal.iter().chain(&high).copied().collect();
    remove(&mut record.files.low, &others);
    add(&mut record.files.high, &high);
    add(&mut record.files.low, &low);
    if before != record.files.unwanted {
        record.progress.wanted = wanted_bytes(metainfo, &record.files.unwanted);
        // The next run finds out.
        record.progress.is_complete &= wanted_is_subset(&before, &record.files.unwanted);
    }
    Ok(())
}

/// Whether all files that are wanted now were wanted before.
fn wanted_is_subset(before: &[u32], now: &[u32]) -> bool {
    before.iter().all(|index| now.binary_search(index).is_ok())
}
