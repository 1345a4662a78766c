//! Shows where an error is in the source that was uploaded.
//!
//! The server knows a function by its name, so its errors say `new_msg.js:3:5`; the author knows a file, and wants to see the
//! line.

use std::{fmt::Write, ops::Range, path::Path};

/// At most this many characters of a line are shown, around the place of the error: minified sources are one long line.
const SHOWN: usize = 100;

/// The server's text with the real path in place of the function's name, and the line of the first position under it.
/// `None` when the text does not mention this function's source.
pub fn explain(error: &str, name: &str, path: &Path, source: &str) -> Option<String> {
    let error = error.trim_end();
    let path = path.display().to_string();
    let mut text = String::new();
    let mut place = None;
    let mut done = 0;
    for (range, position) in mentions(error, name) {
        text.push_str(&error[done..range.start]);
        text.push_str(&path);
        done = range.end;
        place = place.or(position);
    }
    if done == 0 {
        return None;
    }
    text.push_str(&error[done..]);
    if let Some((Position { line, column }, snippet)) = place.and_then(|place| Some((place, snippet(source, place)?))) {
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

/// Where the source is mentioned, as `new_msg.js`, `new_msg.js:3:5` or `new_msg:3:5`: the range of its name, and the place.
fn mentions<'a>(error: &'a str, name: &'a str) -> impl Iterator<Item = (Range<usize>, Option<Position>)> {
    error.match_indices(name).filter_map(move |(start, _)| {
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
        if error[..start].ends_with(is_part) {
            return None;
        }
        let after = &error[start + name.len()..];
        let file = after.strip_prefix(".js").filter(|rest| !rest.starts_with(char::is_alphanumeric));
        let rest = file.unwrap_or(after);
        let place = position(rest);
        (file.is_some() || place.is_some()).then(|| (start..error.len() - rest.len(), place))
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
        explain(error, "new_msg", Path::new("./src/fn.js"), source).unwrap_or_else(|| "not mine".into())
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
    fn a_mention_without_a_place_gets_the_path() {
        assert_eq!(shown("the top level of new_msg.js is slow", "a"), "the top level of ./src/fn.js is slow");
    }

    #[test]
    fn other_files_and_texts_are_left_alone() {
        assert_eq!(shown("new_msg.json is no function", "a"), "not mine");
        assert_eq!(shown("at old_new_msg.js:1:1", "a"), "not mine");
        assert_eq!(shown("function `new_msg` has no `handle`", "a"), "not mine");
    }

    #[test]
    fn a_position_outside_the_source_shows_no_line() {
        assert_eq!(shown("new_msg.js:9:1: x", "a"), "./src/fn.js:9:1: x");
        assert_eq!(shown("new_msg.js:0:1: x", "a"), "./src/fn.js:0:1: x");
        assert_eq!(shown("new_msg:1:99999999999999999999999", "a"), "not mine");
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
