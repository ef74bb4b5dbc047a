//! What lists show of a metainfo, and how torrent files of the state folder are read.

use std::path::Path;

use crate::metainfo::{Metainfo, MetainfoError};
use crate::service::model::{MetainfoSummary, UnixTime};
use crate::util::printable_text::printable;

/// The longest comment that is kept, in characters.
const MAX_COMMENT: usize = 2000;

/// Summarizes a metainfo. Texts are made printable and shortened.
pub fn summarize(metainfo: &Metainfo) -> MetainfoSummary {
    let text = |text: &Option<String>| {
        text.as_ref().map_or_else(String::new, |text| printable(&text.chars().take(MAX_COMMENT).collect::<String>()))
    };
    let largest = metainfo.files.iter().filter(|file| !file.is_virtual).max_by_key(|file| file.length);
    let extension = largest.and_then(|file| file.path.extension()).and_then(|extension| extension.to_str());
    MetainfoSummary {
        piece_length: metainfo.piece_length,
        pieces: metainfo.piece_count(),
        files: metainfo.files.iter().filter(|file| !file.is_virtual).count(),
        entries: u32::try_from(metainfo.files.len()).unwrap_or(u32::MAX),
        is_private: metainfo.is_private,
        comment: text(&metainfo.comment),
        created_by: text(&metainfo.created_by),
        created: UnixTime(metainfo.creation_date.unwrap_or(0)),
        web_seeds: metainfo.web_seeds.clone(),
        mime_type: mime_type(extension.unwrap_or("")).to_owned(),
    }
}

/// Reads a torrent file of the state folder. No name has a colon, which some systems and remote controls do not accept.
///
/// # Errors
/// If it cannot be read, or is no torrent file.
pub fn read_metainfo(path: &Path) -> Result<Metainfo, MetainfoError> {
    let mut metainfo = Metainfo::read(path)?;
    metainfo.replace_colons();
    Ok(metainfo)
}

/// The indexes in the metainfo of the files that are no padding, in order.
pub fn real_files(metainfo: &Metainfo) -> Vec<u32> {
    (0_u32..).zip(&metainfo.files).filter(|(_, file)| !file.is_virtual).map(|(index, _)| index).collect()
}

/// The bytes of the files that are neither padding nor `unwanted`, which are indexes in the metainfo, ascending.
pub fn wanted_bytes(metainfo: &Metainfo, unwanted: &[u32]) -> u64 {
    let files = (0_u32..).zip(&metainfo.files).filter(|(_, file)| !file.is_virtual);
    files.filter(|(index, _)| unwanted.binary_search(index).is_err()).map(|(_, file)| file.length).sum()
}

/// The media type for a file name's extension; `application/octet-stream` if it is unknown.
pub fn mime_type(extension: &str) -> &'static str {
    match extension.to_ascii_lowercase().as_str() {
        "mkv" => "video/x-matroska",
        "mp4" | "m4v" => "video/mp4",
        "webm" => "video/webm",
        "avi" => "video/x-msvideo",
        "mov" => "video/quicktime",
        "ogv" => "video/ogg",
        "mp3" => "audio/mpeg",
        "flac" => "audio/flac",
        "ogg" | "oga" | "opus" => "audio/ogg",
        "m4a" => "audio/mp4",
        "wav" => "audio/wav",
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "pdf" => "application/pdf",
        "epub" => "application/epub+zip",
        "zip" => "application/zip",
        "iso" => "application/x-iso9660-image",
        "gz" => "application/gzip",
        "txt" | "nfo" | "srt" => "text/plain",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_file_gives_the_media_type_and_texts_are_printable() {
        let mut metainfo = Metainfo::parse(
            b"d7:comment5:a\x1bb\nc4:infod5:filesld6:lengthi1e4:pathl5:a.txteed6:lengthi9e4:pathl5:b.MP4eee4:name1:x12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee",
        )
        .expect("a torrent");
        metainfo.creation_date = Some(7);
        let summary = summarize(&metainfo);
        assert_eq!((summary.mime_type.as_str(), summary.files, summary.entries), ("video/mp4", 2, 2));
        assert_eq!(summary.created, UnixTime(7));
        assert!(!summary.comment.contains('\x1b'), "{:?}", summary.comment);
    }
}
