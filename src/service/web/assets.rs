//! The files of the page, which are part of the program.

use std::io::Write as _;
use std::sync::{Arc, OnceLock};

use crate::http_server::{RequestHead, Response, ResponseBody, has_current};

/// A file of the page.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

/// The files packed with gzip, in the order of [`ASSETS`]; `None` where that does not make them smaller.
static PACKED: OnceLock<Vec<Option<Arc<[u8]>>>> = OnceLock::new();

/// Lists the files of the folder `page`.
macro_rules! assets {
    ($($name:literal: $kind:ident),* $(,)?) => {
        static ASSETS: &[Asset] = &[$(Asset {
            name: $name,
            content_type: $kind,
            bytes: include_bytes!(concat!("../page/", $name)),
        }),*];
    };
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const ICON: &str = "image/svg+xml";
const MANIFEST: &str = "application/manifest+json";
const JSON: &str = "application/json";

assets! {
    "actions.js": SCRIPT,
    "add.js": SCRIPT,
    "app.webmanifest": MANIFEST,
    "chrome.js": SCRIPT,
    "details.js": SCRIPT,
    "dialog.js": SCRIPT,
    "dom.js": SCRIPT,
    "filetree.js": SCRIPT,
    "form.js": SCRIPT,
    "format.js": SCRIPT,
    "i18n.js": SCRIPT,
    "icon.svg": ICON,
    "index.html": HTML,
    "lang/en.json": JSON,
    "lang/ru.json": JSON,
    "list.js": SCRIPT,
    "main.js": SCRIPT,
    "menu.js": SCRIPT,
    "metainfo.js": SCRIPT,
    "pieces.js": SCRIPT,
    "rates.js": SCRIPT,
    "service.js": SCRIPT,
    "settings.js": SCRIPT,
    "storage.js": SCRIPT,
    "style.css": STYLE,
    "tables.js": SCRIPT,
    "view.js": SCRIPT,
    "virtual.js": SCRIPT,
}

/// The response to a request for a file of the page.
pub fn response(head: &RequestHead, path: &str) -> Response {
    let name = match path {
        "/" => "index.html",
        path => path.trim_start_matches('/'),
    };
    let Some((number, asset)) = ASSETS.iter().enumerate().find(|(_, asset)| asset.name == name) else {
        return Response::text(404, "not found\n");
    };
    let etag = concat!("\"", env!("CARGO_PKG_VERSION"), "\"");
    // The version alone does not tell builds of one version apart, so the length of the page does, too.
    let etag = format!("{}-{:x}\"", etag.trim_end_matches('"'), total_length());
    if has_current(head, &etag) {
        return Response::not_modified(etag);
    }
    let packed = PACKED.get_or_init(|| ASSETS.iter().map(|asset| pack(asset.bytes)).collect());
    let response = match packed.get(number) {
        Some(Some(packed)) if accepts_gzip(head) => {
            Response::with_body(200, asset.content_type, packed.clone()).header("Content-Encoding", "gzip")
        }
        _ => Response::with_body(200, asset.content_type, ResponseBody::from(asset.bytes)),
    };
    response.header("ETag", etag).header("Cache-Control", "no-cache").header("Vary", "Accept-Encoding")
}

fn total_length() -> usize {
    ASSETS.iter().map(|asset| asset.bytes.len()).sum()
}

fn accepts_gzip(head: &RequestHead) -> bool {
    let accepted = head.header("Accept-Encoding").unwrap_or("");
    accepted.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next() == Some("gzip") && parts.next() != Some("q=0")
    })
}

/// The bytes packed with gzip, if that makes them fewer.
#[cfg(feature = "gzip")]
fn pack(bytes: &[u8]) -> Option<Arc<[u8]>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).ok()?;
    let packed = encoder.finish().ok()?;
    (packed.len() < bytes.len()).then(|| packed.into())
}

#[cfg(not(feature = "gzip"))]
fn pack(_: &[u8]) -> Option<Arc<[u8]>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_in_the_program() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/service/page");
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path.strip_prefix(&root).expect("below").to_string_lossy().into_owned());
                }
            }
        }
        found.sort();
        let mut known: Vec<&str> = ASSETS.iter().map(|asset| asset.name).collect();
        known.sort_unstable();
        assert_eq!(found, known);
        assert!(total_length() <= 120 * 1024, "{} bytes", total_length());
    }
}
