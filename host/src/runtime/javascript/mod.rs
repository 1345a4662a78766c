//! JavaScript functions: one engine that all of them share, and a small delta for each (ARCHITECTURE.md, "The engine").

use std::sync::Arc;

use wasmtime::{Engine, Module};

use self::{
    loader::{Loaded, Loader},
    template::Template,
};
use super::{
    artifacts::{Artifacts, Kind},
    compile::UploadError,
    limits::Limits,
};
use crate::clock::Clock;

pub mod delta;
mod loader;
pub mod template;

/// The committed engine (`guest-sdk/javascript/build.sh` makes it).
const ENGINE: &[u8] = include_bytes!("../../../../guest-sdk/javascript/engine.wasm");

/// The JavaScript engine of this process.
pub struct JavaScript {
    /// What components are made from.
    pub template: Arc<Template>,
    /// The engine's native code, shared by every function.
    pub module: Module,
    loader: Loader,
}

/// An uploaded function that was evaluated and made a component.
#[derive(Debug)]
pub struct Built {
    /// The component that this server runs: it imports the engine.
    pub component: Vec<u8>,
    /// `handle.length`.
    pub parameters: u32,
    /// What the top level logged.
    pub log: Vec<String>,
}

impl JavaScript {
    /// Prepares the engine; its native code is kept, so only the first start on a data folder compiles it (about a second).
    pub async fn new(engine: &Engine, artifacts: Option<&Artifacts>, clock: Arc<Clock>) -> anyhow::Result<Self> {
        let template = Arc::new(Template::parse(ENGINE)?);
        let module = engine_module(engine, artifacts, &template)?;
        let loader = Loader::new(engine, &module, template.clone(), clock).await?;
        Ok(Self { template, module, loader })
    }

    /// Makes the component of a function for this server.
    pub async fn build(&self, name: &str, source: &str, limits: &Limits) -> Result<Built, UploadError> {
        let Loaded { delta, parameters, log } = self.load(name, source, limits).await?;
        Ok(Built { component: self.template.importing_component(&delta), parameters, log })
    }

    /// Makes the self-contained component of a function.
    pub async fn build_embedded(&self, name: &str, source: &str, limits: &Limits) -> Result<Built, UploadError> {
        let Loaded { delta, parameters, log } = self.load(name, source, limits).await?;
        Ok(Built { component: self.template.embedded_component(&delta), parameters, log })
    }

    async fn load(&self, name: &str, source: &str, limits: &Limits) -> Result<Loaded, UploadError> {
        if source.len() > limits.source_bytes {
            return Err(UploadError::TooLarge(format!(
                "the source of `{name}` has {} bytes; at most {} are allowed",
                source.len(),
                limits.source_bytes
            )));
        }
        if source.trim().is_empty() {
            return Err(UploadError::Refused(format!(
                "the source of `{name}` is empty: declare `function handle(body) {{ … }}`"
            )));
        }
        self.loader.load(&format!("{name}.js"), source, limits).await
    }
}

fn engine_module(engine: &Engine, artifacts: Option<&Artifacts>, template: &Template) -> anyhow::Result<Module> {
    let file = format!("engine-{}-{}.cwasm", template.hash, super::compatibility(engine));
    if let Some(native) = artifacts.and_then(|artifacts| artifacts.read(Kind::Native, &file)) {
        // SAFETY: the keyed hash shows that this node wrote the file, and its name that it was made for these settings.
        match unsafe { Module::deserialize(engine, &native) } {
            Ok(module) => return Ok(module),
            Err(error) => {
                tracing::warn!(%error, "the kept native code of the engine cannot be used: compiling it anew")
            }
        }
    }
    let module = Module::from_binary(engine, &template.engine)?;
    if let Some(artifacts) = artifacts {
        artifacts.write(Kind::Native, &file, &module.serialize()?)?;
    }
    Ok(module)
}
