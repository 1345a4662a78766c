//! Tells from the first bytes of an upload what it is; what is no component is refused with what is wanted instead.

use wasmtime::Engine;

use crate::runtime::compile::UploadError;

/// How every WebAssembly binary begins.
pub const MAGIC: &[u8] = b"\0asm";

/// Version and layer of what follows, as of WebAssembly 1.0 and of the component model.
const CORE_MODULE: [u8; 4] = [1, 0, 0, 0];
const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];

/// What a component may be made with, for whoever sent something else.
const WANTED: &str =
    "upload a WebAssembly component of the world `thimble:functions/function` (wit/ of Thimble has it)";

/// Refuses what is larger than `limit` bytes or does not begin as a component does.
pub fn check(name: &str, bytes: &[u8], limit: usize) -> Result<(), UploadError> {
    if bytes.len() > limit {
        let message = format!("`{name}` has {} bytes; a component may have at most {limit}", bytes.len());
        return Err(UploadError::TooLarge(message));
    }
    match problem(bytes) {
        Some(problem) => Err(UploadError::Refused(format!("`{name}` is {problem}"))),
        None => Ok(()),
    }
}

fn problem(bytes: &[u8]) -> Option<String> {
    let version = bytes.strip_prefix(MAGIC).map(|rest| rest.first_chunk::<4>());
    let problem = match version {
        Some(Some(&COMPONENT)) => return None,
        Some(Some(&CORE_MODULE)) => {
            "a core module, not a component: wrap it with `wasm-tools component new`, or".into()
        }
        Some(Some(version)) => {
            format!("of a version of WebAssembly that is not known here (bytes 4 to 7 are {}):", hex::encode(version))
        }
        Some(None) => "cut off: it ends within its first eight bytes;".into(),
        None if bytes.is_empty() => "empty:".into(),
        None if Engine::detect_precompiled(bytes).is_some() || bytes.starts_with(b"\x7fELF") => {
            "native code that was compiled ahead of time, which is never loaded:".into()
        }
        None if is_text(bytes) => {
            "WebAssembly in its text format: turn it into a binary with `wasm-tools parse`, or".into()
        }
        None => "not WebAssembly (it does not begin with `\\0asm`):".into(),
    };
    Some(format!("{problem} {WANTED}"))
}

/// Whether it begins as the text format does, after comments that are not looked into.
fn is_text(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_start();
    [&b"(module"[..], b"(component", b";;", b"(;"].iter().any(|start| text.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_component_is_named() {
        for (bytes, words) in [
            (&b""[..], "is empty"),
            (b"\0as", "not WebAssembly"),
            (b"\0asm\x0d\0", "cut off"),
            (b"\0asm\x01\0\0\0", "a core module, not a component"),
            (b"\0asm\x0c\0\x01\0", "not known here (bytes 4 to 7 are 0c000100)"),
            (b"\x7fELF\x02\x01\x01", "native code"),
            (b"  (component)", "text format"),
            (b";; a comment", "text format"),
            (b"function handle() {}", "not WebAssembly"),
        ] {
            let Err(UploadError::Refused(text)) = check("f", bytes, 100) else { unreachable!("{words}") };
            assert!(text.contains(words) && text.contains("thimble:functions/function"), "{text}");
        }
        assert!(check("f", b"\0asm\x0d\0\x01\0", 100).is_ok());
        assert!(matches!(check("f", &[0; 101], 100), Err(UploadError::TooLarge(text)) if text.contains("101 bytes")));
    }
}
