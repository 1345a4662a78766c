//! Shows where an error is in the source that was uploaded.
//!
//! The server knows a function by its name, so its errors say `new_msg.js:3:5`; the author knows a file, and wants to see the
//! line.

use std::{fmt::Write, path::Path};

/// At most this many characters of a line are shown, around the place of the error: minified sources are one long line.
const SHOWN: usize = 100;

/// The server's text with the real path in place of the function's name, and the line of the first position under it.
/// `None` when the text names no place in this function.
pub fn explain(error: &str, name: &str, path: &Path, source: &str) -> Option<String> {
    let error = error.trim_end();
    let position = mentions(error, name).find_map(|(_, after)| position(after))?;
    let path = path.display().to_string();
    let mut text = with_path(error, name, &path);
    if let Some(snippet) = snippet(source, position) {
        let Position { line, column } = position;
        let _ = write!(text, "\n  --> {path}:{line}:{column}\n{snippet}");
    }
    Some(text)
}

/// A place in the source, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    line: usize,
    column: usize,
}

/// Where the source is mentioned, as `new_msg.js:3:5` or `new_msg:3:5`: the byte range of its name there, and what follows.
fn mentions<'a>(error: &'a str, name: &'a str) -> impl Iterator<Item = (std::ops::Range<usize>, &'a str)> {
    error.match_indices(name).filter_map(move |(start, _)| {
        let before = error[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/')) {
            return None;
        }
        let after = &error[start + name.len()..];
        let after = after.strip_prefix(".js").unwrap_or(after);
        position(after).map(|_| (start..error.len() - after.len(), after))
    })
}

/// Reads `:3:5`.
fn position(text: &str) -> Option<Position> {
    let (line, rest) = number(text.strip_prefix(':')?)?;
    let (column, _) = number(rest.strip_prefix(':')?)?;
    Some(Position { line, column })
}

fn number(text: &str) -> Option<(usize, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok().filter(|number| *number > 0)?, &text[end..]))
}

fn with_path(error: &str, name: &str, path: &str) -> String {
    let mut text = String::new();
    let mut done = 0;
    for (range, _) in mentions(error, name) {
        text.push_str(&error[done..range.start]);
        text.push_str(path);
        done = range.end;
    }
    text.push_str(&error[done..]);
    text
}

/// The line with a caret under the column; `None` for a position that is not in the source.
fn snippet(source: &str, Position { line, column }: Position) -> Option<String> {
    let text = source.lines().nth(line - 1)?;
    let characters: Vec<char> = text.chars().collect();
    let caret = (column - 1).min(characters.len());
    let start = if characters.len() <= SHOWN { 0 } else { caret.saturating_sub(SHOWN / 2) };
    let end = characters.len().min(start + SHOWN);
    let shown: String =
        characters[start..end].iter().map(|c| if c.is_control() && *c != '\t' { '·' } else { *c }).collect();
    // Tabs stay tabs, so that the caret is under its character however wide they are.
    let padding: String = characters[start..caret].iter().map(|c| if *c == '\t' { '\t' } else { ' ' }).collect();
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    Some(format!("{margin} |\n{number} | {shown}\n{margin} | {padding}^"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(error: &str, source: &str) -> String {
        explain(error, "new_msg", Path::new("./src/fn.js"), source).unwrap_or_else(|| "no place".into())
    }

    #[test]
    fn the_line_is_shown_with_a_caret_and_the_real_path() {
        let source = "function handle() {\n\tlet é = ;\n}\n";

        let text = shown("SyntaxError: unexpected token\n    at new_msg.js:2:10\n", source);

        let expected = "SyntaxError: unexpected token\n    at ./src/fn.js:2:10\n  --> ./src/fn.js:2:10\n  |\n2 | \tlet é = ;\n  | \t        ^";
        assert_eq!(text, expected);
    }

    #[test]
    fn every_mention_gets_the_path_and_the_first_is_shown() {
        let text = shown("Error: x at f (new_msg.js:2:1) at new_msg.js:1:1", "a\nb");

        assert!(text.starts_with("Error: x at f (./src/fn.js:2:1) at ./src/fn.js:1:1\n"), "{text}");
        assert!(text.ends_with("2 | b\n  | ^"), "{text}");
    }

    #[test]
    fn other_files_and_texts_are_left_alone() {
        assert_eq!(shown("at old_new_msg.js:1:1", "a"), "no place");
        assert_eq!(shown("function `new_msg` has no `handle`", "a"), "no place");
    }

    #[test]
    fn a_position_outside_the_source_shows_no_line() {
        assert_eq!(shown("new_msg.js:9:1: x", "a"), "./src/fn.js:9:1: x");
        assert_eq!(shown("new_msg.js:0:1: x", "a"), "no place");
        assert_eq!(shown("new_msg:1:99999999999999999999999", "a"), "no place");
        assert!(shown("new_msg.js:1:50: x", "ab").ends_with("1 | ab\n  |   ^"));
    }

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let source = format!("{}!{}", "a".repeat(5_000), "b".repeat(5_000));

        let text = shown("new_msg.js:1:5001", &source);

        let lines: Vec<&str> = text.lines().rev().collect();
        assert_eq!(lines[1].chars().nth(lines[0].chars().count() - 1), Some('!'));
        assert!(lines[1].len() < 120);
    }
}
