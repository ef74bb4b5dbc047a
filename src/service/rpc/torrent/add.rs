//! `torrent_add`.

use crate::service::model::{AddRequest, AddSource, AddedTorrent, ControlError, FileIndexes};
use crate::service::rpc::call::MethodCall;
use crate::service::rpc::error::{ErrorCode, RpcError};
use crate::service::rpc::json::JsonWriter;
use crate::service::rpc::torrent::set::common;
use crate::types::InfoHash;
use crate::util::base64;

/// How a torrent file begins, plain and compressed.
const STARTS: [&[u8]; 2] = [b"d", &[0x1f, 0x8b]];

/// Adds a torrent from its metainfo, a link, or a path. An empty list of files means no files here.
pub fn add(call: &MethodCall<'_>, to: &mut JsonWriter) -> Result<(), RpcError> {
    let params = call.params;
    let source = source(call)?;
    let is_metainfo = matches!(source, AddSource::Metainfo(_));
    let request = AddRequest {
        source,
        folder: params.folder("download_dir", "download directory path")?,
        starts_paused: params.bool("paused"),
        change: common(params, &FileIndexes::None)?,
        cookies: params.text("cookies").filter(|cookies| !cookies.is_empty()).map(str::to_owned),
        may_overwrite: false,
    };
    let added = call.control().add(request).map_err(|error| match error {
        ControlError::BadTorrent(reason) if !is_metainfo && is_magnet(call) => {
            RpcError::new(ErrorCode::UnrecognizedInfo, reason)
        }
        error => error.into(),
    })?;
    write_added(to, &added);
    Ok(())
}

fn write_added(to: &mut JsonWriter, added: &AddedTorrent) {
    if added.is_duplicate {
        to.either_name("torrent-duplicate", "torrent_duplicate");
    } else {
        to.either_name("torrent-added", "torrent_added");
    }
    to.object(|to| {
        to.either_name("hashString", "hash_string");
        to.string(&added.info_hash.hex());
        to.name("id");
        to.int(added.id.0);
        to.name("name");
        to.string(&added.name);
    });
}

fn source(call: &MethodCall<'_>) -> Result<AddSource, RpcError> {
    let filename = call.params.text("filename").unwrap_or_default().trim();
    let metainfo = call.params.text("metainfo").unwrap_or_default();
    match (filename, metainfo) {
        ("", "") => Err(RpcError::invalid("no filename or metainfo specified")),
        ("", metainfo) => {
            let bytes = base64::decode(metainfo).filter(|bytes| STARTS.iter().any(|start| bytes.starts_with(start)));
            bytes.map(AddSource::Metainfo).ok_or_else(|| ErrorCode::UnrecognizedInfo.into())
        }
        (hash, _) if is_info_hash(hash) => Ok(AddSource::Name(format!("magnet:?xt=urn:btih:{hash}"))),
        (name, _) if is_magnet(call) || is_url(name) || name.starts_with('/') => Ok(AddSource::Name(name.to_owned())),
        _ => Err(ErrorCode::UnrecognizedInfo.into()),
    }
}

fn is_magnet(call: &MethodCall<'_>) -> bool {
    has_scheme(call.params.text("filename").unwrap_or_default().trim(), "magnet:")
}

fn is_url(name: &str) -> bool {
    has_scheme(name, "http://") || has_scheme(name, "https://")
}

fn has_scheme(name: &str, scheme: &str) -> bool {
    name.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

/// Whether this is an info-hash alone: in hexadecimal digits, or in base32.
fn is_info_hash(text: &str) -> bool {
    let is_base32 = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'2'..=b'7');
    InfoHash::from_hex(text).is_some() || text.len() == 32 && text.bytes().all(is_base32)
}
