//! What a new marker says of each file.

use crate::storage::files::Storage;
use crate::storage::lock::is_write_action;
use crate::storage::marker::{self, Marker};
use crate::storage::ownership::{FileAction, OwnershipClaim};
use crate::storage::snapshot::FileSnapshot;
use crate::types::InfoHash;

impl Storage {
    /// Records one file that exists. Returns whether this run writes to it although btsync did not make it.
    pub(super) fn record_file(
        &self,
        marker: &mut Marker,
        info_hash: &InfoHash,
        (number, seen, action): (usize, &FileSnapshot, Option<&FileAction>),
        may_overwrite: bool,
    ) -> bool {
        let Some(spec) = self.layout.files().get(number) else { return false };
        let path_hash = marker::path_hash(&spec.path);
        let claim = self.marker.content.as_ref().map(|found| found.claims(&spec.path, seen.identity));
        // Its identity differs from the marker's, but its pieces have shown that it is the same file.
        let is_begun = action == Some(&FileAction::Continue)
            && (claim == Some(OwnershipClaim::StartedHere) || self.is_of_earlier_run(info_hash, number, seen));
        let is_left = !action.copied().is_some_and(is_write_action);
        let before = self.marker.content.as_ref().filter(|_| is_left);
        if let Some(found) = before.filter(|found| found.is_completed_file(&spec.path, seen.identity)) {
            marker.completed.insert(path_hash, seen.identity);
            marker.completed_at.extend(found.completed_at.get(&path_hash).map(|at| (path_hash, *at)));
        } else if before.is_some_and(|found| {
            // A file of ours that this run must not write to, and does not want: the next run must not write to it either.
            let is_foreign = action == Some(&FileAction::Ignore) && found.is_unfinished_file(&spec.path, seen.identity);
            is_foreign || found.is_refused(&spec.path, seen.identity)
        }) {
            marker.refused.insert(path_hash, seen.identity);
            marker.user_files.push(spec.path.clone());
            return false;
        }
        let doubtful = before.filter(|found| found.is_edited(&spec.path, seen.identity));
        marker.edited.extend(doubtful.map(|_| (path_hash, seen.identity)));
        match action {
            _ if claim == Some(OwnershipClaim::MadeButReusable) || is_begun => {
                _ = marker.created.insert(path_hash, seen.identity);
            }
            Some(FileAction::Create | FileAction::Copy | FileAction::ReplaceEmpty) => {
                _ = marker.created.insert(path_hash, seen.identity);
            }
            Some(FileAction::Continue) if may_overwrite => _ = marker.created.insert(path_hash, seen.identity),
            action => {
                marker.user_files.push(spec.path.clone());
                if action == Some(&FileAction::Continue) {
                    marker.used_existing.insert(path_hash, seen.identity);
                    return true;
                }
            }
        }
        false
    }
}
