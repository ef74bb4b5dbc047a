//! Trackers as Transmission's text: one URL a line, and an empty line between tiers.

use crate::service::rpc::error::{ErrorCode, RpcError};

/// The text.
pub fn join(tiers: &[Vec<String>]) -> String {
    let tiers = tiers.iter().filter(|tier| !tier.is_empty());
    tiers.map(|tier| tier.join("\n") + "\n").collect::<Vec<_>>().join("\n")
}

/// Reads the text.
///
/// # Errors
/// If a line is no tracker's URL, or a URL occurs twice.
pub fn parse(text: &str) -> Result<Vec<Vec<String>>, RpcError> {
    let mut tiers: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = std::collections::HashSet::new();
    for line in text.lines().map(str::trim) {
        match tiers.last_mut() {
            Some(tier) if line.is_empty() => {
                if !tier.is_empty() {
                    tiers.push(Vec::new());
                }
            }
            Some(tier) if is_tracker(line) && seen.insert(line) => tier.push(line.to_owned()),
            _ => return Err(ErrorCode::InvalidTrackerList.into()),
        }
    }
    tiers.retain(|tier| !tier.is_empty());
    Ok(tiers)
}

/// Whether this is the URL of a tracker.
pub fn is_tracker(url: &str) -> bool {
    let rest = ["http://", "https://", "udp://"].iter().find_map(|scheme| {
        url.get(..scheme.len()).filter(|start| start.eq_ignore_ascii_case(scheme)).and_then(|_| url.get(scheme.len()..))
    });
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', ':', '?', '#']))
        && !url.chars().any(|char| char.is_whitespace() || char.is_control())
}
