//! Events as JSON: the lines of `--json`, and what a service's event stream says. docs/json.md describes them.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::discovery::port_mapping::status::{MappingState, PortMappingStatus};
use crate::torrent::events::Event;
use crate::types::Transport;
use crate::util::os_error::without_numbers;
use crate::util::printable_text::printable;

impl Event {
    /// The event's name and its fields as a JSON object; `None` for events that the format does not have.
    pub fn to_json(&self) -> Option<(&'static str, String)> {
        self.json_value().map(|(name, fields)| (name, fields.to_string()))
    }

    /// The same, as a value.
    pub(crate) fn json_value(&self) -> Option<(&'static str, Value)> {
        Some(match self {
            Event::Checked { have, total } => ("checked", json!({ "have": have, "total": total })),
            Event::Listening { port } => ("listening", json!({ "port": port })),
            Event::PortMapping { status } => ("port_mapping", port_mapping(status)),
            Event::Metadata { name, total } => ("metadata", json!({ "name": name, "total": total })),
            Event::Selected { files, total_files, bytes } => {
                ("selected", json!({ "files": files, "of": total_files, "bytes": bytes }))
            }
            Event::Announced { tracker, peers, interval, warning } => {
                let interval = interval.as_secs();
                ("tracker", json!({ "url": tracker, "peers": peers, "interval": interval, "error": warning }))
            }
            Event::AnnounceFailed { tracker, error, .. } => {
                let error = error.to_string();
                ("tracker", json!({ "url": tracker, "peers": null, "interval": null, "error": error }))
            }
            Event::PeerConnected { addr, is_incoming, transport } => {
                let direction = if *is_incoming { "incoming" } else { "outgoing" };
                let transport = if *transport == Transport::Utp { "utp" } else { "tcp" };
                let (name, mut fields) = peer(addr, "connected", Some(direction), None);
                fields["transport"] = transport.into();
                (name, fields)
            }
            Event::PeerDisconnected { addr, reason } => peer(addr, "disconnected", None, Some(reason)),
            Event::PeerFailed { addr, reason } => peer(addr, "failed", None, Some(reason)),
            Event::PeerBanned { addr, piece } => {
                peer(addr, "banned", None, Some(&format!("wrong data in piece {}", piece.0)))
            }
            Event::WebSeedEnded { url, reason } => ("web_seed", json!({ "url": url, "reason": reason })),
            Event::MetadataRefused { addr } => peer(addr, "banned", None, Some("wrong metadata")),
            Event::Repaired { what } | Event::Note { what } => ("note", json!({ "text": without_numbers(what) })),
            Event::TorrentSaved { path, is_new } => {
                let what = if *is_new { "saved as" } else { "already saved as" };
                ("note", json!({ "text": format!("{what} {}", printable(&path.to_string_lossy())) }))
            }
            Event::TorrentNotSaved { path, reason, .. } => {
                let text = format!("cannot be saved as {}: {reason}", printable(&path.to_string_lossy()));
                ("note", json!({ "text": without_numbers(&text) }))
            }
            Event::Completed => ("complete", json!({})),
            // Counts of lost events have a line of their own; the others are no events of this format.
            Event::EventsDropped { .. }
            | Event::CheckStarted { .. }
            | Event::NoPeerSource { .. }
            | Event::PieceFailed { .. }
            | Event::Reopening { .. }
            | Event::Stopping => return None,
        })
    }
}

/// A `peer` event: only those about new connections have a direction and a transport, and only the others a reason.
fn peer(address: &SocketAddr, state: &str, direction: Option<&str>, reason: Option<&str>) -> (&'static str, Value) {
    let address = address.to_string();
    ("peer", json!({ "address": address, "state": state, "direction": direction, "transport": null, "reason": reason }))
}

/// What the router said about our port.
fn port_mapping(status: &PortMappingStatus) -> Value {
    let (protocol, address) = match &status.ipv4 {
        MappingState::Mapped { protocol, external_address, .. } => {
            (Some(protocol.to_string()), external_address.map(|address| address.to_string()))
        }
        _ => (None, None),
    };
    json!({
        "protocol": protocol,
        "port": status.ipv4.tcp_port(),
        "udp_port": status.ipv4.udp_port(),
        "address": address,
        "ipv6": matches!(status.ipv6, Some(MappingState::Mapped { .. })),
        "text": status.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_an_object_and_some_events_have_none() {
        let (name, fields) = Event::Checked { have: 1, total: 2 }.to_json().expect("an event");
        assert_eq!((name, fields.as_str()), ("checked", r#"{"have":1,"total":2}"#));
        assert_eq!(Event::Stopping.to_json(), None);
    }

    #[test]
    fn new_connections_have_a_direction_and_ended_ones_a_reason() {
        let addr = ([192, 0, 2, 1], 6881).into();
        let (_, fields) =
            Event::PeerConnected { addr, is_incoming: true, transport: Transport::Utp }.json_value().expect("an event");
        assert_eq!((&fields["direction"], &fields["reason"]), (&json!("incoming"), &json!(null)));
        assert_eq!(fields["transport"], "utp");
        let (_, fields) = Event::PeerConnected { addr, is_incoming: false, transport: Transport::Tcp }
            .json_value()
            .expect("an event");
        assert_eq!(fields["direction"], "outgoing");
        let (_, fields) =
            Event::PeerDisconnected { addr, reason: "closed by the peer".into() }.json_value().expect("an event");
        assert_eq!((&fields["state"], &fields["direction"]), (&json!("disconnected"), &json!(null)));
        assert_eq!(fields["reason"], "closed by the peer");
    }
}
