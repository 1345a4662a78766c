//! Any value as readable text, for the log: JSON for plain data, something useful for the rest, and never an exception.

use std::fmt::Write;

use crate::{
    errors,
    quickjs::{Ctx, Error, Object, Value, atom::PredefinedAtom, qjs},
    text::Text,
};

/// A value's text ends about here: above what the host keeps of an entry, so that the host sees what it cuts, and marks it.
pub const LIMIT: usize = 32 << 10;

/// Objects within objects, at most. Deeper ones are `{…}`.
const DEPTH: usize = 10;

/// The text for a line of the log: strings as they are, everything else as [`write`] has it.
pub fn shown(value: &Value<'_>) -> String {
    if value.is_string() {
        return match Text::of(value) {
            Ok(text) => clipped(&text, LIMIT).to_owned(),
            Err(error) => threw(value.ctx(), error),
        };
    }
    let mut inspector = Inspector { out: String::new(), within: Vec::new() };
    inspector.write(value);
    inspector.out
}

/// The beginning of a text: at most `limit` bytes, no character cut in two.
pub fn clipped(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// What stands in place of a value that cannot be read. The exception is taken.
fn threw(ctx: &Ctx<'_>, error: Error) -> String {
    match error {
        Error::Exception => {
            let thrown = ctx.catch();
            // Only the headline, and of errors only: describing may call code that throws again.
            match thrown.as_object().filter(|_| thrown.is_error()) {
                Some(error) => format!("[threw {}]", errors::headline(error)),
                None => "[threw]".into(),
            }
        }
        error => format!("[{error}]"),
    }
}

struct Inspector<'js> {
    out: String,
    /// The objects that are being written, outermost first.
    within: Vec<Object<'js>>,
}

impl<'js> Inspector<'js> {
    fn full(&self) -> bool {
        self.out.len() > LIMIT
    }

    fn push(&mut self, text: &str) {
        self.out.push_str(clipped(text, LIMIT));
    }

    fn write(&mut self, value: &Value<'js>) {
        if let Some(object) = value.as_object() {
            return self.write_object(object);
        }
        if value.is_string() {
            match Text::of(value) {
                Ok(text) => self.quote(&text),
                Err(error) => self.push(&threw(value.ctx(), error)),
            }
        } else if let Some(symbol) = value.as_symbol() {
            let description = symbol.description().ok().filter(|description| !description.is_undefined());
            let description = description.and_then(|description| Text::of(&description).ok());
            let text = format!("Symbol({})", description.as_deref().unwrap_or_default());
            self.push(&text);
        } else {
            match Text::of(value) {
                Ok(text) => self.push(&text),
                Err(error) => self.push(&threw(value.ctx(), error)),
            }
            if value.is_big_int() {
                self.push("n");
            }
        }
    }

    fn write_object(&mut self, object: &Object<'js>) {
        let value = object.as_value();
        if value.is_error() {
            return self.push(&errors::describe(value));
        }
        if value.is_function() {
            let name = property(object, PredefinedAtom::Name).filter(|name| !name.is_empty());
            let text = name.map_or_else(|| "[function]".into(), |name| format!("[function {name}]"));
            return self.push(&text);
        }
        // SAFETY: these only look at the value.
        let (date, regexp) = unsafe { (qjs::JS_IsDate(value.as_raw()), qjs::JS_IsRegExp(value.as_raw())) };
        if date || regexp {
            let method = if date { "toISOString" } else { "toString" };
            return match call(object, method).and_then(|text| Text::of(&text)) {
                Ok(text) => self.push(&text),
                Err(_) => {
                    object.ctx().catch();
                    self.push(if date { "Invalid Date" } else { "[regular expression]" });
                }
            };
        }
        if self.within.contains(object) {
            return self.push("[circular]");
        }
        if self.within.len() >= DEPTH {
            return self.push(if value.is_array() { "[…]" } else { "{…}" });
        }
        self.within.push(object.clone());
        self.write_content(object);
        self.within.pop();
    }

    fn write_content(&mut self, object: &Object<'js>) {
        let raw = object.as_value().as_raw();
        // SAFETY: these only look at the value.
        let (map, set, typed) = unsafe { (qjs::JS_IsMap(raw), qjs::JS_IsSet(raw), qjs::JS_GetTypedArrayType(raw) >= 0) };
        if object.is_array() || typed {
            if typed {
                let name = class_name(object).unwrap_or_default();
                self.push(&name);
            }
            self.write_list(object);
        } else if map || set {
            self.push(if map { "Map " } else { "Set " });
            match entries(object) {
                Ok(entries) if set => self.write_list(&entries),
                Ok(entries) => self.write_map(&entries),
                Err(error) => self.push(&threw(object.ctx(), error)),
            }
        } else {
            if let Some(name) = class_name(object).filter(|name| name != "Object") {
                self.push(&name);
                self.push(" ");
            }
            self.write_properties(object);
        }
    }

    fn write_list(&mut self, list: &Object<'js>) {
        self.push("[");
        let length = list.get(PredefinedAtom::Length).unwrap_or(0.0) as u32;
        for index in 0..length {
            if self.separator(index > 0) {
                break;
            }
            self.write_result(list.ctx(), list.get(index));
        }
        self.push("]");
    }

    fn write_map(&mut self, entries: &Object<'js>) {
        self.push("{");
        let length = entries.get(PredefinedAtom::Length).unwrap_or(0.0) as u32;
        for index in 0..length {
            if self.separator(index > 0) {
                break;
            }
            let Ok(entry) = entries.get::<_, Object<'js>>(index) else { break };
            self.write_result(entries.ctx(), entry.get(0));
            self.push(" => ");
            self.write_result(entries.ctx(), entry.get(1));
        }
        self.push("}");
    }

    fn write_properties(&mut self, object: &Object<'js>) {
        self.push("{");
        for (index, key) in object.keys::<Value<'js>>().enumerate() {
            if self.separator(index > 0) {
                break;
            }
            match key {
                Ok(key) => {
                    self.write(&key);
                    self.push(":");
                    self.write_result(object.ctx(), object.get(key));
                }
                Err(error) => self.push(&threw(object.ctx(), error)),
            }
        }
        self.push("}");
    }

    /// Writes a comma between two elements; true when there is no room for another.
    fn separator(&mut self, between: bool) -> bool {
        if between {
            self.push(",");
        }
        if self.full() {
            self.push("…");
        }
        self.full()
    }

    fn write_result(&mut self, ctx: &Ctx<'js>, value: Result<Value<'js>, Error>) {
        match value {
            Ok(value) => self.write(&value),
            Err(error) => self.push(&threw(ctx, error)),
        }
    }

    /// Writes a string as JSON does.
    fn quote(&mut self, text: &str) {
        self.out.push('"');
        for character in clipped(text, LIMIT).chars() {
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                control if control < ' ' => {
                    // Writing to a string cannot fail.
                    let _ = write!(self.out, "\\u{:04x}", u32::from(control));
                }
                other => self.out.push(other),
            }
        }
        self.out.push('"');
    }
}

/// The name of the object's class, unless something throws.
fn class_name(object: &Object<'_>) -> Option<String> {
    let constructor: Result<Object<'_>, Error> = object.get(PredefinedAtom::Constructor);
    match constructor {
        Ok(constructor) => property(&constructor, PredefinedAtom::Name),
        Err(_) => {
            object.ctx().catch();
            None
        }
    }
}

/// A property that is a string.
fn property(object: &Object<'_>, name: PredefinedAtom) -> Option<String> {
    let value: Result<Value<'_>, Error> = object.get(name);
    match value {
        Ok(value) if value.is_string() => Text::of(&value).ok().map(|text| clipped(&text, 200).to_owned()),
        Ok(_) => None,
        Err(_) => {
            object.ctx().catch();
            None
        }
    }
}

fn call<'js>(object: &Object<'js>, method: &str) -> Result<Value<'js>, Error> {
    let method: crate::quickjs::Function<'js> = object.get(method)?;
    method.call((crate::quickjs::prelude::This(object.clone()),))
}

/// The elements of a map or a set as an array.
fn entries<'js>(object: &Object<'js>) -> Result<Object<'js>, Error> {
    let array: Object<'js> = object.ctx().globals().get(PredefinedAtom::Array)?;
    let from: crate::quickjs::Function<'js> = array.get(PredefinedAtom::From)?;
    from.call((object.clone(),))
}
