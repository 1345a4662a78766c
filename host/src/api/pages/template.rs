//! HTML from templates: whatever is put into one is escaped, unless it was made here.

/// HTML that holds nothing but templates and escaped text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Markup(String);

/// What stands in the place of a `{{name}}`.
pub enum Part<'a> {
    /// Text from anywhere; it is escaped.
    Text(&'a str),
    /// The result of another template.
    Markup(Markup),
}

impl Markup {
    /// Fills a template of the binary. A name that is not among `parts` leaves nothing; what is filled in is not searched
    /// again, so it cannot name a part.
    pub fn fill(template: &'static str, parts: &[(&str, Part<'_>)]) -> Self {
        let mut html = String::with_capacity(template.len() * 2);
        let mut rest = template;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((name, after)) = after.split_once("}}") else { break };
            html.push_str(before);
            match parts.iter().find(|(known, _)| *known == name) {
                Some((_, Part::Text(text))) => push_escaped(&mut html, text),
                Some((_, Part::Markup(markup))) => html.push_str(&markup.0),
                None => debug_assert!(false, "the template has a part `{name}` that is not given"),
            }
            rest = after;
        }
        html.push_str(rest);
        Self(html)
    }

    /// The HTML.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl FromIterator<Markup> for Markup {
    fn from_iter<I: IntoIterator<Item = Markup>>(pieces: I) -> Self {
        Self(pieces.into_iter().map(Markup::into_string).collect())
    }
}

/// Escapes for text and for attributes in double quotes.
fn push_escaped(html: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            character => html.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_never_a_template() {
        let evil = r#"<script>"'&{{other}}"#;

        let html = Markup::fill(
            r#"<p title="{{text}}">{{other}}</p>"#,
            &[("text", Part::Text(evil)), ("other", Part::Text("o"))],
        );

        assert_eq!(html.into_string(), r#"<p title="&lt;script&gt;&quot;&#39;&amp;{{other}}">o</p>"#);
    }

    #[test]
    fn markup_stays_markup() {
        let row = || Markup::fill("<b>{{name}}</b>", &[("name", Part::Text("<"))]);

        let html = Markup::fill("<i>{{rows}}</i>", &[("rows", Part::Markup([row(), row()].into_iter().collect()))]);

        assert_eq!(html.into_string(), "<i><b>&lt;</b><b>&lt;</b></i>");
    }
}
