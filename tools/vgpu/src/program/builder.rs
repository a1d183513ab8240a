//! Builds one kernel: walks its statements, keeps names, emits flat instructions.

use std::collections::{HashMap, HashSet};

use super::inst::{Guard, Inst, Op, Reg};
use super::layout::{Pointer, align_up, type_class, variable_bytes};
use super::loader::ModuleIndex;
use super::scope::{Scopes, Symbol};
use super::{Fixed, FixedReg, Kernel, Limits, Param, Site, Unsupported, allocate, fences};
use crate::ops::{self, Class};
use crate::ptx::ast::{Function, Instruction, Linkage, Loc, Operand, Space, Statement, Variable};

/// Why a statement cannot be run; the builder adds the line.
pub(super) type Gap = String;

/// Functions inlined into each other deeper than this are taken for recursive.
pub(super) const MAX_INLINE_DEPTH: usize = 48;

pub(super) struct Builder<'p, 'a> {
    pub(super) module: &'p ModuleIndex<'p, 'a>,
    problems: &'p mut Vec<Unsupported>,
    pub(super) scopes: Scopes<'a>,
    code: Vec<Inst>,
    operands: Vec<Reg>,
    sites: Vec<Site>,
    opcodes: HashMap<&'p str, u32>,
    fixed: Vec<FixedReg>,
    fixed_index: HashMap<(Class, Fixed), Reg>,
    /// Registers so far, by class.
    num_registers: [u32; 4],
    /// Position of each label, once it is known.
    labels: Vec<Option<u32>>,
    pub(super) local_bytes: u32,
    shared_end: u32,
    dynamic_align: u64,
    site: Site,
    pub(super) line: u32,
    guard: Option<Guard>,
    at_head: bool,
    /// Functions that are being inlined: name and label of the end.
    pub(super) inlined: Vec<(&'a str, u32)>,
}

impl<'p, 'a> Builder<'p, 'a> {
    pub(super) fn new(module: &'p ModuleIndex<'p, 'a>, problems: &'p mut Vec<Unsupported>) -> Self {
        Builder {
            module,
            problems,
            scopes: Scopes::default(),
            code: Vec::new(),
            operands: Vec::new(),
            sites: Vec::new(),
            opcodes: HashMap::new(),
            fixed: Vec::new(),
            fixed_index: HashMap::new(),
            num_registers: [0; 4],
            labels: Vec::new(),
            local_bytes: 0,
            shared_end: module.shared_end,
            dynamic_align: module.dynamic_align,
            site: Site::default(),
            line: 0,
            guard: None,
            at_head: true,
            inlined: Vec::new(),
        }
    }

    pub(super) fn kernel(mut self, function: &Function<'a>, body: &'p [Statement<'a>]) -> Kernel {
        self.push_module_scope();
        let mut params: Vec<Param> = Vec::new();
        for variable in &function.params {
            let end = params.last().map_or(0, |last| last.offset + last.bytes);
            let Some((bytes, align)) = variable_bytes(variable) else {
                self.problem(variable.line, variable.to_string(), "a parameter of unknown type");
                continue;
            };
            let offset = align_up(end, align);
            self.scopes.bind(variable.name, Symbol::Place(Pointer::Param(offset)));
            params.push(Param {
                name: variable.name.to_owned(),
                offset,
                bytes: bytes.min(1 << 16) as u32,
            });
        }
        self.body(body);
        self.line = body.last().map_or(function.line, |_| self.line);
        self.emit(Op::Exit, &[], &[]);
        self.resolve_labels();
        self.find_copies();
        let dynamic_base = align_up(self.shared_end, self.dynamic_align);
        let traces_fences = fences::may_lack(&self.code, &self.operands);
        let allocation = allocate::allocate(
            &mut self.code,
            &mut self.operands,
            &mut self.fixed,
            self.num_registers,
        );
        Kernel {
            name: function.name.to_owned(),
            params,
            limits: limits(function),
            code: self.code,
            operands: self.operands,
            sites: self.sites,
            opcodes: texts(self.opcodes),
            fixed: self.fixed,
            num_rows: allocation.num_rows,
            local_bytes: self.local_bytes.next_multiple_of(16),
            static_shared_end: self.shared_end,
            dynamic_base,
            traces_fences,
        }
    }

    /// The scope of the module's variables, under a fresh set of scopes.
    pub(super) fn push_module_scope(&mut self) {
        self.scopes = Scopes::default();
        self.scopes.push();
        for (name, place) in &self.module.places {
            self.scopes.bind(name, Symbol::Place(*place));
        }
        self.scopes.push();
    }

    fn problem(&mut self, line: u32, instruction: String, reason: impl Into<String>) {
        self.problems.push(Unsupported { line, instruction, reason: reason.into() });
    }
}

/// Statements.
impl<'p, 'a> Builder<'p, 'a> {
    /// The statements of one scope.
    pub(super) fn body(&mut self, body: &'p [Statement<'a>]) {
        for statement in body {
            if let Statement::Label(name, _) = statement {
                let label = self.new_label();
                self.scopes.bind(name, Symbol::Label(label));
            }
        }
        for statement in body {
            match statement {
                Statement::Instruction(instruction) => self.instruction(instruction),
                Statement::Label(name, _) => {
                    if let Some(Symbol::Label(label)) = self.scopes.find(name) {
                        self.place_label(label);
                    }
                }
                Statement::Variable(variable) => {
                    if let Err(reason) = self.declare(variable) {
                        self.problem(variable.line, variable.to_string(), reason);
                    }
                }
                Statement::Block(inner) => {
                    self.scopes.push();
                    self.body(inner);
                    self.scopes.pop();
                }
                Statement::Loc(loc) => self.set_location(loc),
                Statement::Pragma(_) | Statement::Targets { .. } => {}
            }
        }
    }

    fn set_location(&mut self, loc: &Loc<'a>) {
        self.site.file = loc.file;
        self.site.source_line = loc.line;
    }

    fn instruction(&mut self, instruction: &'p Instruction<'a>) {
        self.line = instruction.line;
        let next = self.opcodes.len() as u32;
        self.site.opcode = *self.opcodes.entry(&instruction.opcode).or_insert(next);
        self.at_head = true;
        let result = self.guarded(instruction);
        self.guard = None;
        if let Err(reason) = result {
            self.problem(instruction.line, instruction.to_string(), reason);
        }
    }

    fn guarded(&mut self, instruction: &'p Instruction<'a>) -> Result<(), Gap> {
        if let Some(guard) = &instruction.guard {
            let mut predicate = self.register(guard.predicate, Class::Pred)?;
            if matches!(instruction.operands.first(), Some(Operand::Pair(..))) {
                // The first destination may be the guard itself.
                let copy = self.temp(Class::Pred);
                self.emit_row("mov.pred", copy, &[predicate])?;
                predicate = copy;
            }
            self.guard = Some(Guard { predicate, negated: guard.negated });
        }
        self.lower(instruction)
    }

    fn declare(&mut self, variable: &Variable<'a>) -> Result<(), Gap> {
        if variable.space == Space::Reg {
            let class = type_class(variable.ty).ok_or("a register of a type that is not known")?;
            let count = variable.count.unwrap_or(1);
            if count > 1 << 24 {
                return Err("more registers than any kernel has".into());
            }
            let first = self.num_registers[class as usize];
            self.num_registers[class as usize] += count;
            let symbol = match variable.count {
                Some(count) => Symbol::Registers { class, first, count },
                None => Symbol::Register(Reg::new(class, first)),
            };
            return self.declare_once(variable.name, symbol);
        }
        let (bytes, align) = variable_bytes(variable).ok_or("a variable of unknown type")?;
        if bytes > 1 << 24 {
            return Err("a variable of over 16 MiB".into());
        }
        let place = match variable.space {
            Space::Local => Pointer::Local(self.reserve_local(bytes as u32, align)),
            Space::Param => Pointer::InlinedParam(self.reserve_local(bytes as u32, align)),
            Space::Shared if variable.linkage == Some(Linkage::Extern) || bytes == 0 => {
                self.dynamic_align = self.dynamic_align.max(align);
                Pointer::DynamicShared(0)
            }
            Space::Shared => {
                let at = align_up(self.shared_end, align);
                self.shared_end = at + bytes as u32;
                Pointer::Shared(at)
            }
            _ => return Err("a variable of this space inside a function".into()),
        };
        self.declare_once(variable.name, Symbol::Place(place))
    }

    fn declare_once(&mut self, name: &'a str, symbol: Symbol) -> Result<(), Gap> {
        let is_new = self.scopes.declare(name, symbol);
        is_new.then_some(()).ok_or_else(|| format!("`{name}` is declared twice"))
    }

    fn reserve_local(&mut self, bytes: u32, align: u64) -> u32 {
        let at = align_up(self.local_bytes, align);
        self.local_bytes = at + bytes;
        at
    }
}

/// Labels.
impl Builder<'_, '_> {
    pub(super) fn new_label(&mut self) -> u32 {
        self.labels.push(None);
        self.labels.len() as u32 - 1
    }

    pub(super) fn place_label(&mut self, label: u32) {
        self.labels[label as usize] = Some(self.code.len() as u32);
    }

    /// Turns label numbers into positions. A label at the end leads to the final `exit`.
    fn resolve_labels(&mut self) {
        for inst in &mut self.code {
            if let Op::Bra(target) = &mut inst.op {
                *target = self.labels[*target as usize].unwrap_or(0);
            }
        }
    }
}

/// Emission.
impl Builder<'_, '_> {
    pub(super) fn temp(&mut self, class: Class) -> Reg {
        let number = self.num_registers[class as usize];
        self.num_registers[class as usize] += 1;
        Reg::new(class, number)
    }

    /// The register that always holds `value`.
    pub(super) fn fixed(&mut self, class: Class, value: Fixed) -> Reg {
        if let Some(reg) = self.fixed_index.get(&(class, value)) {
            return *reg;
        }
        let reg = self.temp(class);
        self.fixed.push(FixedReg { reg, class, value });
        self.fixed_index.insert((class, value), reg);
        reg
    }

    pub(super) fn constant(&mut self, class: Class, value: u64) -> Reg {
        let width = if class == Class::R32 { value & 0xffff_ffff } else { value };
        self.fixed(class, Fixed::Value(width.into()))
    }

    pub(super) fn emit(&mut self, op: Op, defs: &[Reg], uses: &[Reg]) {
        let operands = self.operands.len() as u32;
        self.operands.extend_from_slice(defs);
        self.operands.extend_from_slice(uses);
        self.code.push(Inst {
            op,
            guard: self.guard,
            operands,
            num_defs: defs.len() as u16,
            num_uses: uses.len() as u16,
            is_head: self.at_head,
        });
        self.sites.push(Site { line: self.line, ..self.site });
        self.at_head = false;
    }

    /// Emits a row of the table whose registers have the right classes.
    pub(super) fn emit_row(&mut self, name: &str, dest: Reg, sources: &[Reg]) -> Result<(), Gap> {
        let row = ops::find(name).ok_or_else(|| format!("vgpu has no `{name}`"))?;
        self.emit(Op::Map(row.run()), &[dest], sources);
        Ok(())
    }

    /// Emits a row that prepares an operand: without the guard, and not what counts count.
    pub(super) fn prelude_row(
        &mut self,
        name: &str,
        dest: Reg,
        sources: &[Reg],
    ) -> Result<(), Gap> {
        let was_head = self.at_head;
        self.unguarded(|b| b.emit_row(name, dest, sources))?;
        if let Some(inst) = self.code.last_mut() {
            inst.is_head = false;
        }
        self.at_head = was_head;
        Ok(())
    }

    /// Marks the loads whose values go nowhere but into stores.
    fn find_copies(&mut self) {
        let mut others: HashSet<Reg> = HashSet::new();
        for inst in &self.code {
            let first = inst.operands as usize + usize::from(inst.num_defs);
            let uses = &self.operands[first..first + usize::from(inst.num_uses)];
            let read = if let Op::Store(_) = inst.op { &uses[..1] } else { uses };
            others.extend(read);
        }
        for inst in &mut self.code {
            if let Op::Load(access) = &mut inst.op {
                let defs = &self.operands[inst.operands as usize..][..usize::from(inst.num_defs)];
                access.is_copied = defs.iter().all(|reg| !others.contains(reg));
            }
        }
    }

    pub(super) fn take_guard(&mut self) -> Option<Guard> {
        self.guard.take()
    }

    pub(super) fn set_guard(&mut self, guard: Guard) {
        self.guard = Some(guard);
    }

    /// Runs `emit` without the instruction's guard.
    pub(super) fn unguarded<T>(&mut self, emit: impl FnOnce(&mut Self) -> T) -> T {
        let guard = self.guard.take();
        let result = emit(self);
        self.guard = guard;
        result
    }
}

/// The texts by their numbers.
fn texts(numbers: HashMap<&str, u32>) -> Vec<String> {
    let mut all: Vec<_> = numbers.into_iter().collect();
    all.sort_unstable_by_key(|(_, number)| *number);
    all.into_iter().map(|(text, _)| text.to_owned()).collect()
}

fn limits(function: &Function<'_>) -> Limits {
    let mut limits = Limits::default();
    for directive in &function.directives {
        let value =
            |i: usize| directive.values.get(i).map_or(1, |v| (*v).min(u32::MAX.into()) as u32);
        let triple = [value(0), value(1), value(2)];
        match directive.name {
            "maxntid" => limits.max_threads = triple.iter().fold(1, |p, v| p.saturating_mul(*v)),
            "reqntid" => {
                limits.max_threads = triple.iter().fold(1, |p, v| p.saturating_mul(*v));
                limits.required_block = triple;
            }
            "reqnctapercluster" => limits.required_cluster = triple,
            "maxnreg" => limits.max_registers = value(0),
            "minnctapersm" => limits.min_blocks = value(0),
            _ => {}
        }
    }
    limits
}
