//! The list of files with their progress: files in progress first, then those not started, then complete ones. Pure.

use crate::cli::report::piece_map::Style;
use crate::cli::report::sanitize;
use crate::cli::report::status::size;
use crate::cli::report::tui::text::{pad_left, pad_right};
use crate::util::cold_sort;
use btsync::{FileView, PieceState};

/// The progress of a file: how many of its pieces are verified, are being downloaded, and exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileProgress {
    file: usize,
    verified: u32,
    in_progress: u32,
    all: u32,
}

impl FileProgress {
    fn is_complete(self) -> bool {
        self.verified == self.all
    }

    /// The sort key: in progress, not started, complete.
    fn rank(self) -> u8 {
        match self {
            whole if whole.is_complete() => 2,
            begun if begun.verified + begun.in_progress > 0 => 0,
            _ => 1,
        }
    }
}

/// For each index, the number of pieces before it that are verified and that are being downloaded.
fn running_counts(pieces: &[PieceState]) -> Vec<(u32, u32)> {
    let mut running_counts = Vec::with_capacity(pieces.len() + 1);
    let (mut verified, mut in_progress) = (0, 0);
    running_counts.push((0, 0));
    for piece in pieces {
        verified += u32::from(*piece == PieceState::Verified);
        in_progress += u32::from(*piece == PieceState::InProgress);
        running_counts.push((verified, in_progress));
    }
    running_counts
}

/// Lines for the files: a heading and at most `most` files. Empty until the check is over.
pub fn lines(files: &[FileView], pieces: &[PieceState], width: usize, most: usize, style: Style) -> Vec<String> {
    if files.is_empty() || pieces.is_empty() {
        return Vec::new();
    }
    let running_counts = running_counts(pieces);
    let at = |piece: u32| running_counts.get(piece as usize).copied().unwrap_or_default();
    let file_progress = |(file, view): (usize, &FileView)| {
        let ((v0, u0), (v1, u1)) = (at(view.pieces.start), at(view.pieces.end));
        let all = view.pieces.end.saturating_sub(view.pieces.start);
        FileProgress { file, verified: v1.saturating_sub(v0), in_progress: u1.saturating_sub(u0), all }
    };
    let mut all: Vec<FileProgress> = files.iter().enumerate().map(file_progress).collect();
    let whole = all.iter().filter(|file| file.is_complete()).count();
    cold_sort::sort_by_key(&mut all, |file| (file.rank(), file.file));
    let head = pad_right(&format!("files: {whole} of {} are complete", files.len()), width);
    let head = style.dim(head.trim_end());
    let line = |file: &FileProgress| {
        let view = files.get(file.file)?;
        // Rounded down: only a complete file shows 100%.
        let percent = u64::from(file.verified) * 100 / u64::from(file.all.max(1));
        let percent = if file.is_complete() { 100 } else { percent.min(99) };
        let mark = if file.in_progress > 0 { ">" } else { " " };
        let values = format!("{mark}{}{}", pad_left(&format!("{percent}%"), 4), pad_left(&size(view.length), 12));
        let values = if width < 32 { pad_left(&format!("{percent}%"), 4) } else { values };
        let left = width.saturating_sub(console::measure_text_width(&values) + 2);
        Some(format!("{values}  {}", pad_right(&sanitize(&view.path), left).trim_end()))
    };
    std::iter::once(head).chain(all.iter().take(most).filter_map(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use PieceState::{InProgress, Missing, Verified};

    fn file(path: &str, length: u64, pieces: std::ops::Range<u32>) -> FileView {
        FileView { index: 0, path: path.to_owned(), stored_as: None, length, pieces }
    }

    #[test]
    fn files_in_progress_come_first_and_complete_ones_last() {
        let files = [file("done", 1 << 20, 0..2), file("none", 5, 2..3), file("half", 9, 3..5), file("empty", 0, 0..0)];
        let pieces = [Verified, Verified, Missing, InProgress, Verified];
        let shown = lines(&files, &pieces, 40, 9, Style::new(true, false));
        let text: Vec<_> = shown.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let expected =
            ["files: 2 of 4 are complete", "> 50% 9 B half", "0% 5 B none", "100% 1.0 MiB done", "100% 0 B empty"];
        assert_eq!(text, expected);
        assert_eq!(lines(&files, &pieces, 40, 2, Style::new(true, false)).len(), 3);
        assert!(lines(&files, &[], 40, 2, Style::new(true, false)).is_empty());
    }

    #[test]
    fn names_of_any_kind_fit_any_width() {
        let files = [file(&"漢字/".repeat(60), 1 << 40, 0..9), file("bad\x1b[2J", 1, 8..9)];
        for width in 1..120 {
            let all = lines(&files, &[Missing; 9], width, 9, Style::new(true, false));
            let fits = |line: &String| console::measure_text_width(line) <= width.max(7) && !line.contains('\x1b');
            assert!(all.iter().all(fits), "{width}: {all:?}");
        }
    }
}
