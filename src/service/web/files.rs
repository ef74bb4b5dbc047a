//! The files of torrents over HTTP, also while they download: for a player, or to fetch them from the machine.

use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use crate::http_server::{BodySource, Pulled, QueryString, RequestHead, Response, ResponseBody, Waker};
use crate::service::metainfo_summary::mime_type;
use crate::service::model::{Control, ControlError, DataFileId, OpenDataFile, TorrentId};
use crate::service::web::access::client_ip;

/// Bytes read at once.
const READ_SIZE: usize = 64 * 1024;

/// The torrent and the file that a path below `/files/` names, and the token of the link.
pub fn file_of(head: &RequestHead, path: &str) -> Option<(DataFileId, String)> {
    let mut parts = path.strip_prefix("/files/")?.split('/');
    let id = TorrentId(parts.next()?.parse().ok()?);
    let index: u32 = parts.next()?.parse().ok()?;
    let query = QueryString::new(head.query().unwrap_or(""));
    let token = query.first("token").map(<[u8]>::to_vec)?;
    Some((DataFileId { torrent: id, index }, String::from_utf8(token).ok()?))
}

/// The response to a request for a file.
pub fn response(head: &RequestHead, path: &str, control: &Arc<dyn Control>) -> Response {
    let Some((file, token)) = file_of(head, path) else { return Response::text(404, "not found\n") };
    if !control.is_file_link_valid(file, &token) {
        return Response::text(403, "this link has expired\n");
    }
    let opened = match control.open_file(file, client_ip(head)) {
        Ok(opened) => opened,
        Err(error @ ControlError::TooManyReaders) => {
            return Response::text(503, format!("{error}\n")).header("Retry-After", "10");
        }
        Err(error) => return Response::text(404, format!("{error}\n")),
    };
    let name = opened.name.clone();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let kind = mime_type(extension);
    let is_shown = ["audio/", "video/", "image/"].iter().any(|start| kind.starts_with(start));
    let length = opened.length;
    let (client, control) = (client_ip(head), control.clone());
    let body = |range: Range<u64>| {
        let length = Some(range.end.saturating_sub(range.start));
        ResponseBody::Source { source: Box::new(DataFileSource { opened, range, file, client, control }), length }
    };
    let response = Response::ranged(head, length, kind, body)
        .header("Content-Security-Policy", "sandbox; default-src 'none'")
        .header("Cache-Control", "private, no-store");
    let disposition = if is_shown { "inline" } else { "attachment" };
    response.header("Content-Disposition", format!("{disposition}; filename*=UTF-8''{}", encoded(&name)))
}

/// A file name as RFC 5987 wants it.
fn encoded(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Reads a file of a torrent as far as its pieces are verified, and waits for the others.
struct DataFileSource {
    opened: OpenDataFile,
    range: Range<u64>,
    file: DataFileId,
    client: IpAddr,
    control: Arc<dyn Control>,
}

impl DataFileSource {
    fn read(&mut self, wanted: u64, waker: &Waker) -> io::Result<Vec<u8>> {
        let at = self.range.start;
        (self.opened.read)(at, wanted, waker).or_else(|error| {
            if error.kind() != io::ErrorKind::NotConnected {
                return Err(error);
            }
            // The torrent may have become dormant or may run again, or its files have moved.
            self.opened = self
                .control
                .open_file(self.file, self.client)
                .ok()
                .filter(|opened| opened.length == self.opened.length)
                .ok_or(error)?;
            (self.opened.read)(at, wanted, waker)
        })
    }
}

impl BodySource for DataFileSource {
    fn pull(&mut self, max: usize, out: &mut Vec<u8>, waker: &Waker) -> io::Result<Pulled> {
        let left = self.range.end.saturating_sub(self.range.start);
        if left == 0 {
            return Ok(Pulled::End);
        }
        let wanted = left.min(max.min(READ_SIZE) as u64);
        let bytes = self.read(wanted, waker)?;
        if bytes.is_empty() {
            return Ok(Pulled::Pending);
        }
        self.range.start += bytes.len() as u64;
        out.extend_from_slice(&bytes);
        Ok(Pulled::Data)
    }
}
