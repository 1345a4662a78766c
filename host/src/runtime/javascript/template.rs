//! The component that every JavaScript function is made from: the template with one delta added.
//!
//! The committed `engine.wasm` is the template: an ordinary component whose first core module is the engine with its baked
//! memory. A function that this server runs *imports* that module instead of holding it, so that all functions share one
//! compiled engine and one memory image; a function that is given out holds it.

use std::ops::Range;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use wasm_encoder as encode;
use wasmparser::{Parser, Payload, types};

use super::delta;

/// Custom section of the engine that holds the size of its stack in bytes (u32, little endian).
const STACK_SECTION: &str = "thimble:stack";

/// The engine and what is needed to make components from it.
#[derive(Debug)]
pub struct Template {
    /// The core module of the engine.
    pub engine: Vec<u8>,
    /// Short hash of the template: another engine makes other components.
    pub hash: String,
    /// Name of the core module that this server's own components import.
    pub import: String,
    /// The part of the engine's memory that is its stack: dead between calls.
    pub stack: Range<usize>,
    embedded: Vec<u8>,
    importing: Vec<u8>,
    core_modules: u32,
    engine_instance: u32,
}

impl Template {
    /// Reads `engine.wasm`.
    pub fn parse(template: &[u8]) -> Result<Self> {
        let hash = hex::encode(&Sha256::digest(template)[..8]);
        let import = format!("engine-h{hash}");
        let engine = template.get(engine_range(template)?).context("the engine's module is cut off")?.to_vec();
        let stack = 0..stack_size(&engine)?;

        let mut importing = encode::Component::new();
        let (mut depth, mut core_modules, mut core_instances, mut engine_instance) = (0, 0, 0, None);
        for payload in Parser::new(0).parse_all(template) {
            let payload = payload?;
            match &payload {
                Payload::ModuleSection { unchecked_range, .. } | Payload::ComponentSection { unchecked_range, .. } => {
                    depth += 1;
                    if depth > 1 {
                        continue;
                    }
                    let is_module = matches!(payload, Payload::ModuleSection { .. });
                    if is_module && core_modules == 0 {
                        import_engine(&mut importing, &import, &engine)?;
                    } else {
                        let id = if is_module {
                            encode::ComponentSectionId::CoreModule
                        } else {
                            encode::ComponentSectionId::Component
                        };
                        importing
                            .section(&encode::RawSection { id: id as u8, data: &template[unchecked_range.clone()] });
                    }
                    core_modules += u32::from(is_module);
                    continue;
                }
                Payload::End(_) => {
                    depth -= i32::from(depth > 0);
                    continue;
                }
                _ if depth > 0 => continue,
                Payload::InstanceSection(section) => {
                    for instance in section.clone() {
                        if let wasmparser::Instance::Instantiate { module_index: 0, .. } = instance? {
                            engine_instance = Some(core_instances);
                        }
                        core_instances += 1;
                    }
                }
                _ => {}
            }
            if let Some((id, range)) = payload.as_section() {
                importing.section(&encode::RawSection { id, data: &template[range] });
            }
        }
        Ok(Self {
            engine,
            hash,
            import,
            stack,
            embedded: template.to_vec(),
            importing: importing.finish(),
            core_modules,
            engine_instance: engine_instance.context("the template never instantiates its engine")?,
        })
    }

    /// The component of a function for this server: a few kilobytes, because it imports the engine.
    pub fn importing_component(&self, delta: &[u8]) -> Vec<u8> {
        self.with_delta(&self.importing, delta)
    }

    /// The same component, self-contained.
    pub fn embedded_component(&self, delta: &[u8]) -> Vec<u8> {
        self.with_delta(&self.embedded, delta)
    }

    /// Components are sequences of sections: what is added stands at the end, after everything it refers to.
    fn with_delta(&self, component: &[u8], delta: &[u8]) -> Vec<u8> {
        let mut instances = encode::InstanceSection::new();
        instances.instantiate(self.core_modules, [(delta::ENGINE, encode::ModuleArg::Instance(self.engine_instance))]);

        let mut bytes = component.to_vec();
        append(&mut bytes, &encode::RawSection { id: encode::ComponentSectionId::CoreModule as u8, data: delta });
        append(&mut bytes, &instances);
        bytes
    }
}

fn append(component: &mut Vec<u8>, section: &impl encode::ComponentSection) {
    section.append_to_component(component);
}

/// Where in the template the first core module lies.
fn engine_range(template: &[u8]) -> Result<Range<usize>> {
    for payload in Parser::new(0).parse_all(template) {
        if let Payload::ModuleSection { unchecked_range, .. } = payload? {
            return Ok(unchecked_range);
        }
    }
    bail!("the template holds no core module")
}

fn stack_size(engine: &[u8]) -> Result<usize> {
    for payload in Parser::new(0).parse_all(engine) {
        if let Payload::CustomSection(section) = payload?
            && section.name() == STACK_SECTION
        {
            let bytes = section.data().try_into().ok().context("the engine's stack size is not four bytes")?;
            return Ok(u32::from_le_bytes(bytes) as usize);
        }
    }
    bail!("the engine does not say how large its stack is (custom section `{STACK_SECTION}`)")
}

/// Adds the import of a core module with the engine's imports and exports.
fn import_engine(component: &mut encode::Component, name: &str, engine: &[u8]) -> Result<()> {
    let mut core_types = encode::CoreTypeSection::new();
    core_types.ty().module(&module_type(engine)?);
    let mut imports = encode::ComponentImportSection::new();
    imports.import(name, encode::ComponentTypeRef::Module(0));
    component.section(&core_types).section(&imports);
    Ok(())
}

fn module_type(module: &[u8]) -> Result<encode::ModuleType> {
    let validated = wasmparser::Validator::new().validate_all(module).context("the engine is not valid")?;
    let types = validated.as_ref();
    let mut result = encode::ModuleType::new();
    let mut function_types = 0;
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    let entity = types.entity_type_from_import(&import).context("an import without a type")?;
                    let entity = entity_type(&mut result, &mut function_types, types, entity)?;
                    result.import(import.module, import.name, entity);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    let entity = types.entity_type_from_export(&export).context("an export without a type")?;
                    let entity = entity_type(&mut result, &mut function_types, types, entity)?;
                    result.export(export.name, entity);
                }
            }
            _ => {}
        }
    }
    Ok(result)
}

fn entity_type(
    module: &mut encode::ModuleType,
    function_types: &mut u32,
    types: types::TypesRef<'_>,
    entity: types::EntityType,
) -> Result<encode::EntityType> {
    Ok(match entity {
        types::EntityType::Func(id) => {
            let function = types[id].unwrap_func();
            let values = |list: &[wasmparser::ValType]| -> Result<Vec<encode::ValType>> {
                list.iter().map(|value| encode::ValType::try_from(*value).map_err(anyhow::Error::from)).collect()
            };
            module.ty().function(values(function.params())?, values(function.results())?);
            *function_types += 1;
            encode::EntityType::Function(*function_types - 1)
        }
        types::EntityType::Memory(memory) => encode::EntityType::Memory(memory.into()),
        other => bail!("the engine imports or exports something that is neither a function nor a memory: {other:?}"),
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use wasmparser::{Validator, WasmFeatures};

    use super::{super::delta, *};

    const ENGINE: &[u8] = include_bytes!("../../../../guest-sdk/javascript/engine.wasm");
    const PAGE: usize = 64 << 10;

    static TEMPLATE: LazyLock<Template> = LazyLock::new(|| Template::parse(ENGINE).unwrap());

    fn is_valid(component: &[u8]) -> bool {
        Validator::new_with_features(WasmFeatures::default()).validate_all(component).is_ok()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(30) })]

        #[test]
        fn a_component_of_any_delta_is_valid(
            changes in prop::collection::vec((0..3 * PAGE, any::<u8>()), 0..80),
            pages in 1_usize..4,
        ) {
            let base = vec![0; PAGE];
            let mut after = vec![0; pages * PAGE];
            for (at, byte) in changes {
                let at = at % after.len();
                after[at] = byte;
            }
            let delta = delta::module(&base, &after, 0..0);

            prop_assert!(is_valid(&TEMPLATE.importing_component(&delta)));
            prop_assert!(is_valid(&TEMPLATE.embedded_component(&delta)));
        }

        #[test]
        fn a_template_that_is_damaged_is_an_error_or_another_one(at in 0..ENGINE.len(), bit in 0_u8..8, cut in any::<bool>()) {
            let mut damaged = ENGINE.to_vec();
            damaged[at] ^= 1 << bit;
            if cut {
                damaged.truncate(at);
            }

            if let Ok(template) = Template::parse(&damaged) {
                prop_assert_ne!(&template.hash, &TEMPLATE.hash);
            }
        }
    }
}
