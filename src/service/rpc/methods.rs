//! The methods, by name.

use crate::service::model::QueueMove;
use crate::service::rpc::call::MethodCall;
use crate::service::rpc::error::RpcError;
use crate::service::rpc::json::JsonWriter;
use crate::service::rpc::{Dialect, session, torrent};

/// Carries out a request, and writes the members of its result.
type MethodFn = fn(&MethodCall<'_>, &mut JsonWriter) -> Result<(), RpcError>;

/// A method.
pub struct Method {
    /// Its name in JSON-RPC.
    pub name: &'static str,
    /// Whether it changes nothing.
    pub reads_only: bool,
    /// Carries it out.
    pub run: MethodFn,
}

/// The methods of btsync's own begin with this. The legacy dialect does not have them.
const OWN: &str = "btsync_";

/// All methods.
pub const METHODS: &[Method] = &[
    acts("blocklist_update", session::update_blocklist),
    reads("free_space", session::free_space),
    reads("group_get", |call, to| {
        session::get_groups(call, to);
        Ok(())
    }),
    acts("group_set", session::set_group),
    reads("port_test", session::test_port),
    acts("queue_move_bottom", |call, _| call.act(|control, ids| control.move_in_queue(ids, QueueMove::Bottom))),
    acts("queue_move_down", |call, _| call.act(|control, ids| control.move_in_queue(ids, QueueMove::Down))),
    acts("queue_move_top", |call, _| call.act(|control, ids| control.move_in_queue(ids, QueueMove::Top))),
    acts("queue_move_up", |call, _| call.act(|control, ids| control.move_in_queue(ids, QueueMove::Up))),
    acts("session_close", |call, _| {
        call.control().shut_down();
        Ok(())
    }),
    reads("session_get", |call, to| {
        session::get(call, to);
        Ok(())
    }),
    acts("session_set", session::set),
    reads("session_stats", |call, to| {
        session::get_stats(call, to);
        Ok(())
    }),
    acts("torrent_add", torrent::add),
    reads("torrent_get", torrent::get),
    acts("torrent_reannounce", |call, _| call.act(|control, ids| control.reannounce(ids))),
    acts("torrent_remove", |call, _| {
        let deletes_data = call.params.bool("delete_local_data").unwrap_or(false);
        call.act(|control, ids| control.remove(ids, deletes_data))
    }),
    acts("torrent_rename_path", torrent::rename_path),
    acts("torrent_set", torrent::set),
    acts("torrent_set_location", torrent::set_location),
    acts("torrent_start", |call, _| call.act(|control, ids| control.start(ids, false))),
    acts("torrent_start_now", |call, _| call.act(|control, ids| control.start(ids, true))),
    acts("torrent_stop", |call, _| call.act(|control, ids| control.stop(ids))),
    acts("torrent_verify", |call, _| call.act(|control, ids| control.verify(ids))),
    reads("btsync_file_link", torrent::own::file_link),
    reads("btsync_files", torrent::own::files),
    acts("btsync_overwrite", torrent::own::overwrite),
    reads("btsync_pieces", torrent::own::pieces),
];

/// The method of a name in JSON-RPC's spelling.
pub fn find(name: &str, dialect: Dialect) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name && (dialect == Dialect::JsonRpc || !name.starts_with(OWN)))
}

const fn reads(name: &'static str, run: MethodFn) -> Method {
    Method { name, reads_only: true, run }
}

const fn acts(name: &'static str, run: MethodFn) -> Method {
    Method { name, reads_only: false, run }
}
