//! Whether a compiled component is one of the world: what it imports is there, and `handle` is what is called.

use std::fmt::{self, Write};

use wasmtime::{
    Engine,
    component::{Component, Linker, types},
};

use crate::host_functions::{Invocation, world::FunctionPre};

/// The type of `handle` in the world, as `wit/world.wit` has it.
const HANDLE: &str = "func(args: list<string>) -> result<option<string>, string>";

/// A type is shown up to this many bytes: it may be made to be endless.
const SHOWN: usize = 400;

/// So many names are listed.
const LISTED: usize = 10;

/// Links a component to the world, or says in a sentence why it is of another one.
pub fn link(
    engine: &Engine,
    linker: &Linker<Invocation>,
    component: &Component,
) -> Result<FunctionPre<Invocation>, String> {
    let linked = linker.instantiate_pre(component).map_err(|error| imports(&error))?;
    FunctionPre::new(linked)
        .map_err(|error| handle(engine, component).unwrap_or_else(|| shortened(&format!("{error:#}"))))
}

/// The sentence for a component that asks for more than a sandbox has room for.
pub fn too_large(name: &str, error: &wasmtime::Error) -> String {
    format!("`{name}` needs more than a sandbox has: {}", shortened(&format!("{error:#}")))
}

fn imports(error: &wasmtime::Error) -> String {
    format!(
        "{}. A function may import the interfaces of the package `thimble:functions@0.1.0`",
        shortened(&format!("{error:#}"))
    )
}

/// What is wrong with `handle`; `None` when it looks right.
fn handle(engine: &Engine, component: &Component) -> Option<String> {
    let ty = component.component_type();
    let Some(handle) = ty.get_export(engine, "handle") else {
        let mut names: Vec<_> = ty.exports(engine).take(LISTED + 1).map(|(name, _)| format!("`{}`", name)).collect();
        let exports = match names.len() {
            0 => "nothing".to_owned(),
            count if count > LISTED => {
                names.truncate(LISTED);
                format!("{} and more", names.join(", "))
            }
            _ => names.join(", "),
        };
        return Some(format!("it does not export `handle: {HANDLE}`; it exports {}", shortened(&exports)));
    };
    let found = match handle.ty {
        types::ComponentItem::ComponentFunc(function) => {
            let found = shown(&function);
            if found == HANDLE {
                return None;
            }
            found
        }
        types::ComponentItem::CoreFunc(_) => "a core function".into(),
        types::ComponentItem::Module(_) => "a core module".into(),
        types::ComponentItem::Component(_) => "a component".into(),
        types::ComponentItem::ComponentInstance(_) => "an instance".into(),
        types::ComponentItem::Type(_) => "a type".into(),
        types::ComponentItem::Resource(_) => "a resource".into(),
    };
    Some(format!("its `handle` is `{found}`, but the world's is `{HANDLE}`"))
}

/// A function's type in WIT.
fn shown(function: &types::ComponentFunc) -> String {
    let mut text = Text::default();
    // It only fails when there is enough already.
    let _ = text.function(function);
    text.finish()
}

fn shortened(text: &str) -> String {
    let mut short = Text::default();
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let _ = text.chars().map(clean).try_for_each(|c| short.write_char(c));
    short.finish()
}

/// Text of at most [`SHOWN`] bytes.
#[derive(Default)]
struct Text {
    text: String,
    is_cut: bool,
}

impl Text {
    fn finish(mut self) -> String {
        if self.is_cut {
            self.text.push('…');
        }
        self.text
    }

    fn function(&mut self, function: &types::ComponentFunc) -> fmt::Result {
        self.write_str(if function.async_() { "async func(" } else { "func(" })?;
        for (number, (name, ty)) in function.params().enumerate() {
            self.write_str(if number == 0 { "" } else { ", " })?;
            write!(self, "{name}: ")?;
            self.ty(&ty)?;
        }
        self.write_str(")")?;
        for result in function.results() {
            self.write_str(" -> ")?;
            self.ty(&result)?;
        }
        Ok(())
    }

    fn ty(&mut self, ty: &types::Type) -> fmt::Result {
        use types::Type;
        let name = match ty {
            Type::Bool => "bool",
            Type::S8 => "s8",
            Type::U8 => "u8",
            Type::S16 => "s16",
            Type::U16 => "u16",
            Type::S32 => "s32",
            Type::U32 => "u32",
            Type::S64 => "s64",
            Type::U64 => "u64",
            Type::Float32 => "f32",
            Type::Float64 => "f64",
            Type::Char => "char",
            Type::String => "string",
            Type::ErrorContext => "error-context",
            Type::Enum(_) => "enum { … }",
            Type::Flags(_) => "flags { … }",
            Type::Record(_) => "record { … }",
            Type::Variant(_) => "variant { … }",
            Type::Own(_) => "own<…>",
            Type::Borrow(_) => "borrow<…>",
            Type::Future(_) => "future<…>",
            Type::Stream(_) => "stream<…>",
            Type::List(list) => return self.of("list", [Some(list.ty())]),
            Type::FixedLengthList(list) => return self.of("list", [Some(list.ty())]),
            Type::Map(map) => return self.of("map", [Some(map.key()), Some(map.value())]),
            Type::Tuple(tuple) => return self.of("tuple", tuple.types().map(Some)),
            Type::Option(option) => return self.of("option", [Some(option.ty())]),
            Type::Result(result) => match (result.ok(), result.err()) {
                (None, None) => "result",
                (ok, None) => return self.of("result", [ok]),
                (ok, err) => return self.of("result", [ok, err]),
            },
        };
        self.write_str(name)
    }

    fn of(&mut self, name: &str, types: impl IntoIterator<Item = Option<types::Type>>) -> fmt::Result {
        write!(self, "{name}<")?;
        for (number, ty) in types.into_iter().enumerate() {
            self.write_str(if number == 0 { "" } else { ", " })?;
            match ty {
                Some(ty) => self.ty(&ty)?,
                None => self.write_str("_")?,
            }
        }
        self.write_str(">")
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = SHOWN - self.text.len();
        let end = text.floor_char_boundary(room.min(text.len()));
        self.text.push_str(&text[..end]);
        if end < text.len() {
            self.is_cut = true;
            return Err(fmt::Error);
        }
        Ok(())
    }
}
