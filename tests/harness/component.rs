//! Components of the world, made from core modules in text: what a compiler of another language would make.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::repository;

/// The component of the world `thimble:functions/function` around a core module, which exports `handle`, `memory` and
/// `cabi_realloc` and imports what it uses of the world.
pub fn component(module: &str) -> Vec<u8> {
    let mut module = wat::parse_str(module).unwrap();
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(repository("wit")).unwrap();
    let world = resolve.select_world(&[package], Some("function")).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

/// Such a component with this body of `handle` (parameters `$args`, a list of strings, and `$count`; result: where the answer
/// is), and these further items of the module. It can call `$log` (level, text, length), `$string` (which makes an answer of a
/// text and its length) and `$realloc`.
pub fn guest(handle: &str, items: &str) -> Vec<u8> {
    guest_importing("", handle, items)
}

/// The same with further imports.
pub fn guest_importing(imports: &str, handle: &str, items: &str) -> Vec<u8> {
    component(&format!(
        r#"(module
            (import "thimble:functions/log@0.1.0" "log" (func $log (param i32 i32 i32)))
            {imports}
            (memory (export "memory") 1)
            (global $free (mut i32) (i32.const 4096))
            {REALLOC}
            ;; ok(some(text))
            (func $string (param $text i32) (param $length i32) (result i32)
                (i32.store (i32.const 16) (i32.const 0))
                (i32.store (i32.const 20) (i32.const 1))
                (i32.store (i32.const 24) (local.get $text))
                (i32.store (i32.const 28) (local.get $length))
                (i32.const 16))
            {items}
            (func (export "handle") (param $args i32) (param $count i32) (result i32)
                {handle}))"#
    ))
}

/// Hands out memory from `$free` on, growing it, and never takes it back.
const REALLOC: &str = r#"
    (func $realloc (export "cabi_realloc")
            (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and
            (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
            (i32.sub (i32.const 0) (local.get $align))))
        (global.set $free (i32.add (local.get $at) (local.get $size)))
        (block $enough
            (br_if $enough (i32.le_u (global.get $free) (i32.shl (memory.size) (i32.const 16))))
            (br_if $enough (i32.ne (i32.const -1) (memory.grow
                (i32.sub (i32.shr_u (i32.add (global.get $free) (i32.const 65535)) (i32.const 16)) (memory.size)))))
            unreachable)
        (memory.copy (local.get $at) (local.get $old) (local.get $old_size))
        (local.get $at))"#;

/// A body of `handle` that returns the first argument.
pub const ECHO: &str = "(call $string (i32.load (local.get $args)) (i32.load offset=4 (local.get $args)))";

/// A body of `handle` that returns this text, and the item of the module with it.
pub fn returning(text: &str) -> (String, String) {
    let data: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let body = format!("(call $string (i32.const 1024) (i32.const {}))", text.len());
    (body, format!("(data (i32.const 1024) \"{data}\")"))
}
