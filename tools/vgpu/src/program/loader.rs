//! From the syntax tree to a [`Program`]: globals first, then kernel by kernel.

use std::collections::HashMap;

use super::builder::Builder;
use super::layout::{GlobalVariable, Pointer, align_up, initial_bytes, variable_bytes};
use super::{Kernel, LoadError, Program, RESERVED_SHARED, Unsupported};
use crate::ptx::ast::{Function, Item, Linkage, Module, Space, Variable};
use crate::ptx::{SyntaxError, parse};

/// What all functions of a module see.
pub(super) struct ModuleIndex<'p, 'a> {
    pub functions: HashMap<&'a str, &'p Function<'a>>,
    pub places: Vec<(&'a str, Pointer)>,
    /// End of the shared variables of the module, and the alignment of dynamic shared memory.
    pub shared_end: u32,
    pub dynamic_align: u64,
}

pub(super) fn load(source: &str) -> Result<Program, LoadError> {
    let (program, problems) = prepare(source)?;
    if problems.is_empty() { Ok(program) } else { Err(LoadError::Unsupported(problems)) }
}

/// Prepares what can be, and tells what cannot, in order of line.
pub(super) fn prepare(source: &str) -> Result<(Program, Vec<Unsupported>), SyntaxError> {
    let module = parse(source)?;
    let mut problems = Vec::new();
    let globals = globals(&module, &mut problems);
    let index = index(&module, &globals, &mut problems);
    let mut kernels: Vec<Kernel> = Vec::new();
    for item in &module.items {
        if let Item::Function(function) = item
            && function.is_entry
            && let Some(body) = &function.body
        {
            kernels.push(Builder::new(&index, &mut problems).kernel(function, body));
        }
    }
    problems.sort_by_key(|problem| problem.line);
    // A function inlined many times is reported once.
    problems.dedup();
    let files = module.items.iter().filter_map(|item| match item {
        Item::File { index, path } => Some((*index, (*path).to_owned())),
        _ => None,
    });
    let program = Program { source: source.to_owned(), files: files.collect(), kernels, globals };
    Ok((program, problems))
}

fn unsupported(variable: &Variable<'_>, reason: impl Into<String>) -> Unsupported {
    Unsupported {
        line: variable.line,
        instruction: variable.to_string().chars().take(80).collect(),
        reason: reason.into(),
    }
}

fn globals(module: &Module<'_>, problems: &mut Vec<Unsupported>) -> Vec<GlobalVariable> {
    let mut globals: Vec<GlobalVariable> = Vec::new();
    let mut pending = Vec::new();
    for item in &module.items {
        let Item::Variable(variable) = item else { continue };
        if !matches!(variable.space, Space::Global | Space::Const) {
            continue;
        }
        let (Some((bytes, _)), Some((init, addresses))) =
            (variable_bytes(variable), initial_bytes(variable))
        else {
            problems.push(unsupported(variable, "a variable of a type that is not known"));
            continue;
        };
        if init.len() as u64 > bytes || bytes > 1 << 40 {
            problems.push(unsupported(variable, "an initialiser longer than its variable"));
            continue;
        }
        if variable.linkage == Some(Linkage::Extern) {
            problems.push(unsupported(variable, "a variable of another module"));
            continue;
        }
        pending.push((globals.len(), addresses, variable));
        globals.push(GlobalVariable {
            name: variable.name.to_owned(),
            bytes,
            init,
            addresses: Vec::new(),
        });
    }
    let names: HashMap<String, usize> =
        globals.iter().enumerate().map(|(i, global)| (global.name.clone(), i)).collect();
    for (owner, addresses, variable) in pending {
        for (at, symbol, offset) in addresses {
            match names.get(symbol) {
                Some(target) => globals[owner].addresses.push((at, *target, offset)),
                None => problems.push(unsupported(variable, format!("no variable `{symbol}`"))),
            }
        }
    }
    globals
}

fn index<'p, 'a>(
    module: &'p Module<'a>,
    globals: &[GlobalVariable],
    problems: &mut Vec<Unsupported>,
) -> ModuleIndex<'p, 'a> {
    let mut functions: HashMap<&'a str, &'p Function<'a>> = HashMap::new();
    let mut places = Vec::new();
    let (mut shared_end, mut dynamic_align) = (RESERVED_SHARED, 16);
    let mut aliases = Vec::new();
    let variables: HashMap<&str, usize> =
        globals.iter().enumerate().map(|(i, global)| (global.name.as_str(), i)).collect();
    for item in &module.items {
        match item {
            Item::Function(function) => {
                let known = functions.entry(function.name).or_insert(function);
                if known.body.is_none() {
                    *known = function;
                }
            }
            Item::Alias { name, target } => aliases.push((*name, *target)),
            Item::Variable(variable) if variable.space == Space::Shared => {
                let Some((bytes, align)) = variable_bytes(variable) else {
                    problems.push(unsupported(variable, "a variable of a type that is not known"));
                    continue;
                };
                if variable.linkage == Some(Linkage::Extern) || bytes == 0 {
                    dynamic_align = dynamic_align.max(align);
                    places.push((variable.name, Pointer::DynamicShared(0)));
                } else {
                    let at = align_up(shared_end, align);
                    places.push((variable.name, Pointer::Shared(at)));
                    shared_end = at.saturating_add(bytes.min(1 << 30) as u32);
                }
            }
            Item::Variable(variable) => {
                if let Some(index) = variables.get(variable.name) {
                    let place = Pointer::Global { variable: *index, offset: 0 };
                    places.push((variable.name, place));
                }
            }
            Item::File { .. } | Item::Section { .. } => {}
        }
    }
    for (name, target) in aliases {
        if let Some(function) = functions.get(target).copied() {
            functions.insert(name, function);
        }
    }
    ModuleIndex { functions, places, shared_end, dynamic_align }
}
