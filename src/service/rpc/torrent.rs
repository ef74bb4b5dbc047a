//! Methods about torrents.

mod add;
pub mod array_fields;
mod fields;
pub mod own;
mod set;
mod view;

use std::collections::HashSet;

use serde_json::Value;

use crate::service::model::TorrentSummary;
use crate::service::rpc::call::MethodCall;
use crate::service::rpc::error::{ErrorCode, RpcError};
use crate::service::rpc::json::JsonWriter;
use crate::service::rpc::params::to_snake_case;
use crate::service::rpc::selection::is_recently_active;
use crate::service::rpc::{Context, Dialect};

pub use add::add;
pub use fields::{FIELDS, TorrentField};
pub use set::set;

/// The most names of fields that are looked at.
const MAX_NAMES: usize = 1000;

/// `torrent_get`: the asked fields of the asked torrents.
pub fn get(call: &MethodCall<'_>, to: &mut JsonWriter) -> Result<(), RpcError> {
    let fields = asked_fields(call);
    if fields.is_empty() {
        return Err(RpcError::invalid("no fields specified"));
    }
    if call.params.text("ids").is_some_and(is_recently_active) {
        to.name("removed");
        to.array(call.control().recently_removed(), |to, id| to.int(id.0));
    }
    let torrents = call.selection().summaries(call.control());
    let cache = view::RequestCache::new(call.context);
    let is_table = call.params.text("format") == Some("table");
    to.name("torrents");
    to.begin_array();
    if is_table {
        to.array(&fields, |to, field| {
            to.string(match to.dialect() {
                Dialect::Legacy => field.legacy_name,
                Dialect::JsonRpc => field.name,
            });
        });
    }
    for torrent in &torrents {
        if to.is_full() {
            break;
        }
        let view = view::TorrentView::new(torrent, &cache);
        if is_table {
            to.array(&fields, |to, field| (field.write)(to, &view));
        } else {
            to.object(|to| {
                for field in &fields {
                    to.either_name(field.legacy_name, field.name);
                    (field.write)(to, &view);
                }
            });
        }
    }
    to.end_array();
    Ok(())
}

/// Writes the fields of torrents as an array of objects.
pub fn write_torrents(
    to: &mut JsonWriter,
    context: &Context<'_>,
    torrents: &[TorrentSummary],
    fields: &[&'static TorrentField],
) {
    let cache = view::RequestCache::new(context);
    to.array(torrents, |to, torrent| {
        let view = view::TorrentView::new(torrent, &cache);
        to.object(|to| {
            for field in fields {
                to.either_name(field.legacy_name, field.name);
                (field.write)(to, &view);
            }
        });
    });
}

/// The fields with these names of the dialect JSON-RPC.
pub fn list_fields(names: &[&str]) -> Vec<&'static TorrentField> {
    names.iter().filter_map(|name| find_field(name)).collect()
}

/// The fields that a request names, each once. Unknown names are left out.
fn asked_fields(call: &MethodCall<'_>) -> Vec<&'static TorrentField> {
    let mut seen = HashSet::new();
    let names = call.params.list("fields").unwrap_or_default().iter().take(MAX_NAMES).filter_map(Value::as_str);
    let found = names.filter_map(|name| match call.dialect {
        Dialect::JsonRpc => find_field(name),
        Dialect::Legacy => find_field(&to_snake_case(name)).filter(|field| !field.is_own()),
    });
    found.filter(|field| seen.insert(field.name)).collect()
}

fn find_field(name: &str) -> Option<&'static TorrentField> {
    FIELDS.iter().find(|field| field.name == name)
}

/// `torrent_set_location`: another folder, with or without moving the files.
pub fn set_location(call: &MethodCall<'_>, _to: &mut JsonWriter) -> Result<(), RpcError> {
    if call.params.text("location").is_none() {
        return Err(RpcError::invalid("no location"));
    }
    let Some(folder) = call.params.folder("location", "new location path")? else {
        return Err(RpcError::new(ErrorCode::PathNotAbsolute, "new location path is not absolute"));
    };
    let moves_files = call.params.bool("move").unwrap_or(false);
    match call.ids() {
        ids if ids.is_empty() => Ok(()),
        ids => Ok(call.control().set_folder(&ids, &folder, moves_files)?),
    }
}

/// `torrent_rename_path`: another name for a file or folder of one torrent.
pub fn rename_path(call: &MethodCall<'_>, to: &mut JsonWriter) -> Result<(), RpcError> {
    let ids = call.ids();
    let [id] = ids[..] else {
        return Err(RpcError::invalid(match call.dialect {
            Dialect::Legacy => "torrent-rename-path requires 1 torrent",
            Dialect::JsonRpc => "torrent_rename_path requires 1 torrent",
        }));
    };
    let path = call.params.text("path").unwrap_or_default();
    let name = call.params.text("name").unwrap_or_default();
    let renamed = call.control().rename(id, path, name);
    to.name("id");
    to.int(id.0);
    to.name("name");
    to.string(name);
    to.name("path");
    to.string(path);
    Ok(renamed?)
}
