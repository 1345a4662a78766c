//! What a component may be made of: looked at as it is read, before it is validated, let alone compiled.
//!
//! Validation and Cranelift take far more than linear time and memory for a few shapes (one huge function, deep nesting, many
//! locals, types of types). Ordinary components are far below these bounds: the JavaScript engine has 1,645 functions, the
//! largest of 47 kB, nested 287 deep.

use std::fmt::Display;

use wasmparser::{
    BinaryReaderError, ComponentExternName, ComponentInstance, ComponentType, ComponentTypeDeclaration,
    CompositeInnerType, CoreType, ElementItems, Encoding, FunctionBody, Instance, InstanceTypeDeclaration, MemoryType,
    ModuleTypeDeclaration, Operator, Parser, Payload, RecGroup, SubType, TableType,
};

/// Bytes of the body of one function: 500 kB of calls take the compiler 5 s and 0.6 GB.
const BODY: u64 = 256 << 10;

/// Blocks inside of blocks in one function: 20,000 take 3 s, 200,000 more than two minutes.
const NESTING: u64 = 1_000;

/// Locals of one function: 10,000 take 11 s, 40,000 more than two minutes.
const LOCALS: u64 = 2_000;

/// Targets of all `br_table` of one function.
const BRANCHES: u64 = 10_000;

/// Parameters and results of a function, fields of a record, cases of a variant …
const VALUES: u64 = 100;

/// Bytes of a name.
const NAME: u64 = 1 << 10;

/// Elements of a table: what the pool of sandboxes has room for.
const TABLE_ELEMENTS: u64 = 20_000;

/// Types that are declared inside of one another.
const TYPE_DEPTH: u64 = 32;

const PAGE: u64 = 1 << 16;

/// What is counted over the whole component.
#[derive(Clone, Copy)]
enum Counted {
    Modules,
    Components,
    Functions,
    Types,
    Imports,
    Exports,
    Globals,
    Tables,
    Memories,
    Elements,
    Segments,
    Instances,
    Aliases,
    Branches,
}

impl Counted {
    const ALL: usize = Self::Branches as usize + 1;

    /// Its name, and how many there may be.
    fn limit(self) -> (&'static str, u64) {
        match self {
            Self::Modules => ("core modules", 8),
            Self::Components => ("nested components", 16),
            // 20,000 take the compiler 4 s, 300,000 a minute and 1.8 GB.
            Self::Functions => ("functions", 20_000),
            Self::Types => ("types", 10_000),
            Self::Imports => ("imports", 10_000),
            Self::Exports => ("exports", 10_000),
            Self::Globals => ("globals", 10_000),
            Self::Tables => ("tables", 8),
            Self::Memories => ("memories", 1),
            Self::Elements => ("elements of tables in segments", 100_000),
            Self::Segments => ("segments of data and elements", 10_000),
            Self::Instances => ("instances", 256),
            Self::Aliases => ("aliases", 10_000),
            Self::Branches => ("targets of `br_table`", 100_000),
        }
    }
}

/// Why a component is refused: a sentence that goes on after its name.
type Refusal = String;

type Result<T> = std::result::Result<T, Refusal>;

/// Reads a component to its end.
///
/// # Errors
///
/// What there is too much of and where, or at which byte it cannot be read. `guest_memory` are the bytes of a sandbox.
pub fn check(component: &[u8], guest_memory: u64) -> Result<()> {
    let mut reader = Reader { guest_memory, counts: [0; Counted::ALL], inside: Vec::new() };
    for payload in Parser::new(0).parse_all(component) {
        reader.payload(payload.map_err(broken)?)?;
    }
    Ok(())
}

fn broken(error: BinaryReaderError) -> Refusal {
    format!("it is damaged or cut off: {} (at byte {})", error.message(), error.offset())
}

struct Reader {
    guest_memory: u64,
    counts: [u64; Counted::ALL],
    /// The component and what is being read inside of it.
    inside: Vec<Inside>,
}

/// A core module or component that is being read.
struct Inside {
    name: String,
    /// Index of the next function that has a body, or is imported.
    function: u64,
}

impl Reader {
    fn payload(&mut self, payload: Payload<'_>) -> Result<()> {
        match payload {
            Payload::Version { encoding, .. } => self.begin(encoding),
            Payload::End(_) => {
                self.inside.pop();
                Ok(())
            }
            Payload::TypeSection(section) => all(section, |group| self.group(&group)),
            Payload::ImportSection(section) => all(section.into_imports(), |import| {
                self.count(Counted::Imports, 1)?;
                self.name(import.module)?;
                self.name(import.name)?;
                match import.ty {
                    wasmparser::TypeRef::Func(_) | wasmparser::TypeRef::FuncExact(_) => self.next_function(),
                    wasmparser::TypeRef::Table(table) => return self.table(&table),
                    wasmparser::TypeRef::Memory(memory) => return self.minimum(&memory),
                    _ => 0,
                };
                Ok(())
            }),
            Payload::FunctionSection(section) => self.count(Counted::Functions, section.count().into()),
            Payload::TableSection(section) => all(section, |table| {
                self.count(Counted::Tables, 1)?;
                self.table(&table.ty)
            }),
            Payload::MemorySection(section) => all(section, |memory| {
                self.count(Counted::Memories, 1)?;
                self.minimum(&memory)
            }),
            Payload::GlobalSection(section) => self.count(Counted::Globals, section.count().into()),
            Payload::ExportSection(section) => all(section, |export| {
                self.count(Counted::Exports, 1)?;
                self.name(export.name)
            }),
            Payload::ElementSection(section) => all(section, |segment| {
                self.count(Counted::Segments, 1)?;
                let elements = match segment.items {
                    ElementItems::Functions(functions) => functions.count(),
                    ElementItems::Expressions(_, expressions) => expressions.count(),
                };
                self.count(Counted::Elements, elements.into())
            }),
            Payload::DataSection(section) => self.count(Counted::Segments, section.count().into()),
            Payload::CodeSectionEntry(body) => self.body(&body),
            Payload::InstanceSection(section) => all(section, |instance| {
                self.count(Counted::Instances, 1)?;
                match instance {
                    Instance::Instantiate { args, .. } => args.iter().try_for_each(|arg| self.name(arg.name)),
                    Instance::FromExports(exports) => {
                        self.count(Counted::Exports, exports.len() as u64)?;
                        exports.iter().try_for_each(|export| self.name(export.name))
                    }
                }
            }),
            Payload::ComponentInstanceSection(section) => all(section, |instance| {
                self.count(Counted::Instances, 1)?;
                match instance {
                    ComponentInstance::Instantiate { args, .. } => args.iter().try_for_each(|arg| self.name(arg.name)),
                    ComponentInstance::FromExports(exports) => {
                        self.count(Counted::Exports, exports.len() as u64)?;
                        exports.iter().try_for_each(|export| self.extern_name(&export.name))
                    }
                }
            }),
            Payload::CoreTypeSection(section) => all(section, |ty| self.core_type(&ty)),
            Payload::ComponentTypeSection(section) => all(section, |ty| self.component_type(&ty, 1)),
            Payload::ComponentAliasSection(section) => self.count(Counted::Aliases, section.count().into()),
            Payload::ComponentCanonicalSection(section) => self.count(Counted::Functions, section.count().into()),
            Payload::ComponentImportSection(section) => all(section, |import| {
                self.count(Counted::Imports, 1)?;
                self.extern_name(&import.name)
            }),
            Payload::ComponentExportSection(section) => all(section, |export| {
                self.count(Counted::Exports, 1)?;
                self.extern_name(&export.name)
            }),
            Payload::CustomSection(section) => self.name(section.name()),
            // What is new is the validator's to judge.
            _ => Ok(()),
        }
    }

    fn begin(&mut self, encoding: Encoding) -> Result<()> {
        let name = match encoding {
            _ if self.inside.is_empty() => "the component".to_owned(),
            Encoding::Module => {
                self.count(Counted::Modules, 1)?;
                format!("core module {}", self.counts[Counted::Modules as usize])
            }
            Encoding::Component => {
                self.count(Counted::Components, 1)?;
                format!("nested component {}", self.counts[Counted::Components as usize])
            }
        };
        self.inside.push(Inside { name, function: 0 });
        Ok(())
    }

    fn count(&mut self, what: Counted, number: u64) -> Result<()> {
        let count = &mut self.counts[what as usize];
        *count = count.saturating_add(number);
        let (name, most) = what.limit();
        if *count <= most {
            return Ok(());
        }
        Err(format!("it has more than {most} {name}; the one too many is in {}", self.place()))
    }

    fn at_most(&self, whose: impl Display, number: u64, most: u64, what: &str) -> Result<()> {
        if number <= most {
            return Ok(());
        }
        Err(format!("{whose} in {} has {number} {what}, and at most {most} are allowed", self.place()))
    }

    fn place(&self) -> &str {
        self.inside.last().map_or("the component", |inside| inside.name.as_str())
    }

    /// The index of the function that comes now.
    fn next_function(&mut self) -> u64 {
        self.inside.last_mut().map_or(0, |inside| {
            inside.function += 1;
            inside.function - 1
        })
    }

    fn name(&self, name: &str) -> Result<()> {
        let start: String = name.chars().take(40).collect();
        self.at_most(format_args!("the name `{}…`", start.escape_debug()), name.len() as u64, NAME, "bytes")
    }

    fn extern_name(&self, name: &ComponentExternName<'_>) -> Result<()> {
        let parts = [Some(name.name), name.implements, name.version_suffix, name.external_id];
        parts.into_iter().flatten().try_for_each(|part| self.name(part))
    }

    fn values(&self, number: usize) -> Result<()> {
        let ty = self.counts[Counted::Types as usize];
        self.at_most(format_args!("type {ty}"), number as u64, VALUES, "values")
    }

    fn table(&self, table: &TableType) -> Result<()> {
        self.at_most("a table", table.initial, TABLE_ELEMENTS, "elements")
    }

    fn minimum(&self, memory: &MemoryType) -> Result<()> {
        let bytes = memory.initial.saturating_mul(PAGE);
        if bytes <= self.guest_memory {
            return Ok(());
        }
        Err(format!(
            "the memory of {} begins with {bytes} bytes, but a run may have {}; the operator raises the limit with \
             `limits.memory`",
            self.place(),
            self.guest_memory
        ))
    }

    fn body(&mut self, body: &FunctionBody<'_>) -> Result<()> {
        let number = self.next_function();
        self.at_most(format_args!("function {number}"), body.range().len() as u64, BODY, "bytes")?;
        let mut locals = 0_u64;
        all(body.get_locals_reader().map_err(broken)?, |(count, _)| {
            locals += u64::from(count);
            self.at_most(format_args!("function {number}"), locals, LOCALS, "locals")
        })?;
        let mut operators = body.get_operators_reader().map_err(broken)?;
        let (mut nesting, mut branches) = (0_u64, 0);
        while !operators.eof() {
            match operators.read().map_err(broken)? {
                Operator::Block { .. }
                | Operator::Loop { .. }
                | Operator::If { .. }
                | Operator::Try { .. }
                | Operator::TryTable { .. } => {
                    nesting += 1;
                    self.at_most(format_args!("function {number}"), nesting, NESTING, "blocks inside of one another")?;
                }
                Operator::End | Operator::Delegate { .. } => nesting = nesting.saturating_sub(1),
                Operator::BrTable { targets } => {
                    branches += u64::from(targets.len());
                    self.at_most(format_args!("function {number}"), branches, BRANCHES, "targets of `br_table`")?;
                    self.count(Counted::Branches, targets.len().into())?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn group(&mut self, group: &RecGroup) -> Result<()> {
        group.types().try_for_each(|ty| self.sub_type(ty))
    }

    fn sub_type(&mut self, ty: &SubType) -> Result<()> {
        self.count(Counted::Types, 1)?;
        self.values(match &ty.composite_type.inner {
            CompositeInnerType::Func(function) => function.params().len() + function.results().len(),
            CompositeInnerType::Struct(fields) => fields.fields.len(),
            CompositeInnerType::Array(_) | CompositeInnerType::Cont(_) => 1,
        })
    }

    fn core_type(&mut self, ty: &CoreType<'_>) -> Result<()> {
        let CoreType::Module(declarations) = ty else {
            let CoreType::Rec(group) = ty else { return Ok(()) };
            return self.group(group);
        };
        self.count(Counted::Types, 1)?;
        declarations.iter().try_for_each(|declaration| match declaration {
            ModuleTypeDeclaration::Type(group) => self.group(group),
            ModuleTypeDeclaration::Export { name, .. } => {
                self.count(Counted::Exports, 1)?;
                self.name(name)
            }
            ModuleTypeDeclaration::Import(import) => {
                self.count(Counted::Imports, 1)?;
                self.name(import.module)?;
                self.name(import.name)
            }
            ModuleTypeDeclaration::OuterAlias { .. } => self.count(Counted::Aliases, 1),
        })
    }

    fn component_type(&mut self, ty: &ComponentType<'_>, depth: u64) -> Result<()> {
        use wasmparser::ComponentDefinedType as Defined;
        self.count(Counted::Types, 1)?;
        self.at_most("a type", depth, TYPE_DEPTH, "types inside of one another")?;
        match ty {
            ComponentType::Defined(defined) => {
                let (names, values): (Vec<&str>, usize) = match defined {
                    Defined::Record(fields) => (fields.iter().map(|(name, _)| *name).collect(), fields.len()),
                    Defined::Variant(cases) => (cases.iter().map(|case| case.name).collect(), cases.len()),
                    Defined::Flags(names) | Defined::Enum(names) => (names.to_vec(), names.len()),
                    Defined::Tuple(types) => (Vec::new(), types.len()),
                    Defined::FixedLengthList(_, length) => (Vec::new(), *length as usize),
                    _ => (Vec::new(), 1),
                };
                self.values(values)?;
                names.into_iter().try_for_each(|name| self.name(name))
            }
            ComponentType::Func(function) => {
                self.values(function.params.len() + 1)?;
                function.params.iter().try_for_each(|(name, _)| self.name(name))
            }
            ComponentType::Component(declarations) => {
                declarations.iter().try_for_each(|declaration| match declaration {
                    ComponentTypeDeclaration::CoreType(ty) => self.core_type(ty),
                    ComponentTypeDeclaration::Type(ty) => self.component_type(ty, depth + 1),
                    ComponentTypeDeclaration::Alias(_) => self.count(Counted::Aliases, 1),
                    ComponentTypeDeclaration::Export { name, .. } => {
                        self.count(Counted::Exports, 1)?;
                        self.extern_name(name)
                    }
                    ComponentTypeDeclaration::Import(import) => {
                        self.count(Counted::Imports, 1)?;
                        self.extern_name(&import.name)
                    }
                })
            }
            ComponentType::Instance(declarations) => {
                declarations.iter().try_for_each(|declaration| match declaration {
                    InstanceTypeDeclaration::CoreType(ty) => self.core_type(ty),
                    InstanceTypeDeclaration::Type(ty) => self.component_type(ty, depth + 1),
                    InstanceTypeDeclaration::Alias(_) => self.count(Counted::Aliases, 1),
                    InstanceTypeDeclaration::Export { name, .. } => {
                        self.count(Counted::Exports, 1)?;
                        self.extern_name(name)
                    }
                })
            }
            ComponentType::Resource { .. } => Ok(()),
        }
    }
}

/// Does the same with every item of a section.
fn all<T>(
    section: impl IntoIterator<Item = wasmparser::Result<T>>,
    mut check: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    section.into_iter().try_for_each(|item| check(item.map_err(broken)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MEMORY: u64 = 64 << 20;

    #[test]
    fn what_is_in_the_corpus_is_refused_or_within_the_bounds() {
        for (name, bytes) in crate::corpus::each("components") {
            if let Err(error) = check(&bytes, MEMORY) {
                assert!(!error.to_string().is_empty(), "{name}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_within_the_bounds(
            bytes: Vec<u8>,
            header in prop::sample::select(vec![&b""[..], b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0"]),
        ) {
            let _ = check(&[header, &bytes].concat(), MEMORY);
        }
    }
}
