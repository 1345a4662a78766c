//! The JavaScript engine: a guest of the world `function` that becomes whatever function is loaded into it.
//!
//! The host uses it in three steps, each in an instance of its own. `compile` turns source into bytecode; `load` evaluates the
//! bytecode's top level and finds `handle`, and what that changed in memory is the function; `handle` runs it once. Before all
//! that, `bake/` runs [`initialize`] and keeps the memory, so that no run has to make an engine.
//!
//! Nothing here is trusted by the host: whatever happens inside ends with the instance.

mod call;
mod clock;
mod compile;
mod console;
mod errors;
mod exports;
mod host_functions;
mod inspect;
mod json;
mod load;
mod lookup;
mod memory;
mod memset;
mod phase;
mod random;
mod rejections;
mod runtime;
mod text;
mod wasi;

use javy::quickjs;

mod world {
    wit_bindgen::generate!({ path: "../../wit", world: "function", generate_all });
}

struct Engine;

impl world::Guest for Engine {
    fn handle(args: Vec<String>) -> Result<Option<String>, String> {
        call::handle(args)
    }
}

world::export!(Engine with_types_in world);

/// Makes everything that does not depend on a function. Runs once, while the engine is baked.
#[unsafe(export_name = "wizer-initialize")]
extern "C" fn initialize() {
    runtime::initialize();
}
