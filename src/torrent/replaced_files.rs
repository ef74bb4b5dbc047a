//! What btsync reports before it writes to files that existed before and of which at least one piece verifies. Pure.

use crate::util::units::count;

/// How many files get a line of their own.
const LINES: usize = 5;

/// A file of which some pieces verify, and the others are downloaded again.
pub(crate) struct ReplacedFile {
    /// Printable on one line.
    pub name: String,
    /// The number of pieces that do not verify.
    pub pieces: usize,
    /// The number of pieces in the file.
    pub total_pieces: usize,
}

/// One line for each of the first few files, and one line for all others.
pub(crate) fn lines(files: impl Iterator<Item = ReplacedFile>) -> Vec<String> {
    let (mut lines, mut others, mut other_pieces) = (Vec::new(), 0, 0);
    for ReplacedFile { name, pieces, total_pieces } in files {
        if lines.len() < LINES {
            let verb = if pieces == 1 { "does not verify and is" } else { "do not verify and are" };
            lines.push(format!(
                "{name} existed before: {pieces} of its {} {verb} downloaded again",
                count(total_pieces, "piece")
            ));
        } else {
            (others, other_pieces) = (others + 1, other_pieces + pieces);
        }
    }
    if others > 0 {
        let files = if others == 1 { "file" } else { "files" };
        lines.push(format!("{others} more {files} existed before; pieces downloaded again: {other_pieces}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(count: usize) -> Vec<String> {
        lines((1..=count).map(|pieces| ReplacedFile { name: format!("f{pieces}"), pieces, total_pieces: 20 }))
    }

    #[test]
    fn a_few_files_are_named_and_the_rest_counted() {
        assert!(files(0).is_empty());
        let few = files(2);
        assert_eq!(few[0], "f1 existed before: 1 of its 20 pieces does not verify and is downloaded again");
        assert_eq!(few[1], "f2 existed before: 2 of its 20 pieces do not verify and are downloaded again");
        assert_eq!(files(5).len(), 5);
        assert_eq!(files(6)[5], "1 more file existed before; pieces downloaded again: 6");
        let many = files(19);
        assert_eq!(many.len(), 6);
        assert_eq!(many[5], "14 more files existed before; pieces downloaded again: 175");
    }
}
