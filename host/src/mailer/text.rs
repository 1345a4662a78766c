//! The text of an HTML mail, for receivers that show no HTML.

/// Content of these elements is not text.
const HIDDEN: [&str; 3] = ["script", "style", "head"];

/// These elements end a line.
const LINES: [&str; 9] = ["br", "p", "div", "tr", "li", "h1", "h2", "h3", "table"];

/// Leaves out tags and comments, breaks lines where the page would, and replaces the common entities.
pub fn of_html(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        push_text(&mut text, &rest[..start]);
        rest = &rest[start..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.find("-->").map_or("", |end| &comment[end + 3..]);
            continue;
        }
        if !rest[1..].starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!')) {
            // Not a tag: `a < b`.
            text.push('<');
            rest = &rest[1..];
            continue;
        }
        let Some(end) = rest.find('>') else { break };
        let tag = &rest[1..end];
        rest = &rest[end + 1..];
        let closing = tag.starts_with('/');
        let name: String = tag
            .trim_start_matches('/')
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect::<String>()
            .to_lowercase();
        if LINES.contains(&name.as_str()) && !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        if !closing && HIDDEN.contains(&name.as_str()) {
            rest = after_closing_tag(rest, &name);
        }
    }
    push_text(&mut text, rest);
    text.trim().to_owned()
}

/// What follows `</name>`, in whatever case it is written; nothing when it is not closed.
fn after_closing_tag<'a>(html: &'a str, name: &str) -> &'a str {
    for (start, _) in html.match_indices("</") {
        let after = &html[start + 2..];
        if after.get(..name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name)) {
            return after.find('>').map_or("", |end| &after[end + 1..]);
        }
    }
    ""
}

fn push_text(text: &mut String, html: &str) {
    for word in html.split_inclusive(char::is_whitespace) {
        let bare = word.trim_end_matches(char::is_whitespace);
        let unescaped = bare
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&#39;", "'")
            .replace("&nbsp;", " ")
            .replace("&amp;", "&");
        text.push_str(&unescaped);
        let spaced = bare.len() < word.len();
        if spaced && !text.is_empty() && !text.ends_with(char::is_whitespace) {
            text.push(' ');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::of_html;

    #[test]
    fn tags_go_and_lines_stay() {
        assert_eq!(of_html("<h1>Hi</h1><p>Tom &amp; <b>Ann</b>,</p>\n <p>bye<br/>now</p>"), "Hi\nTom & Ann,\nbye\nnow");
    }

    #[test]
    fn what_is_not_shown_is_not_text() {
        assert_eq!(
            of_html("<HEAD><title>t</title></Head>a<style>p {}</STYLE><!-- <b> -->b<script>1<2</script>c"),
            "abc"
        );
        assert_eq!(of_html("a<script>alert(1)"), "a");
    }

    #[test]
    fn a_lone_angle_bracket_is_text() {
        assert_eq!(of_html("1 < 2 <3 x"), "1 < 2 <3 x");
        assert_eq!(of_html("a < b <b>c</b>"), "a < b c");
    }

    #[test]
    fn plain_text_stays() {
        assert_eq!(of_html("Hello\n  world"), "Hello world");
    }
}
