//! A schedule whose messages are resolved: who sends what to whom, and who waits for it.

use crate::pipeline::{Cell, Fault, Op, OpKind, Problem, Schedule};

/// A message between two ranks: a chunk's activations or its gradients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    /// Rank and position of the operation that makes it.
    pub src: (usize, usize),
    /// Rank and position of the operation that needs it.
    pub dst: (usize, usize),
    /// Index of its channel.
    pub channel: usize,
    /// How many messages went before it on its channel.
    pub send_idx: usize,
}

/// Messages of one sort (activations or gradients) from one rank to another: first in, first out.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    pub dst_rank_idx: usize,
    pub carries_gradients: bool,
    /// The wire, which the activations and gradients of a pair of ranks share.
    pub link_idx: usize,
    /// Messages in the order in which the receiver needs them.
    pub by_receiver: Vec<usize>,
}

/// What one operation takes from and gives to other ranks: indices into [`Program::messages`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub inputs: [Option<usize>; 2],
    pub outputs: [Option<usize>; 2],
}

/// A schedule in which every cell is done once, in its place, after what it needs on its rank.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    pub schedule: &'a Schedule,
    pub traffic: Vec<Vec<Traffic>>,
    pub messages: Vec<Message>,
    pub channels: Vec<Channel>,
    pub num_links: usize,
    /// For each rank, the ranks that it shares a channel with.
    pub neighbours: Vec<Vec<usize>>,
}

impl<'a> Program<'a> {
    /// Resolves all messages, or names the first fault that needs no run to be seen.
    pub(crate) fn resolve(schedule: &'a Schedule) -> Result<Self, Problem> {
        let table = WorkTable::fill(schedule)?;
        table.check_order(schedule)?;
        let mut program = Self {
            schedule,
            traffic: schedule.ranks.iter().map(|ops| vec![Traffic::default(); ops.len()]).collect(),
            messages: Vec::new(),
            channels: Vec::new(),
            num_links: 0,
            neighbours: vec![Vec::new(); schedule.num_pp_ranks()],
        };
        program.connect(&table);
        Ok(program)
    }

    fn connect(&mut self, table: &WorkTable) {
        for (rank_idx, ops) in self.schedule.ranks.iter().enumerate() {
            let first_own = self.channels.len();
            for (op_idx, op) in ops.iter().enumerate() {
                for (part_idx, (kind, cell)) in op.parts().enumerate() {
                    let Some((needed, of)) = next_work(self.schedule, kind, cell) else { continue };
                    let dst = table.place_of(self.schedule, needed, of);
                    if dst.0 == rank_idx {
                        continue;
                    }
                    let carries_gradients = kind != OpKind::F;
                    let channel = self.channels[first_own..]
                        .iter()
                        .position(|own| {
                            (own.dst_rank_idx, own.carries_gradients) == (dst.0, carries_gradients)
                        })
                        .map_or_else(
                            || self.add_channel(first_own, rank_idx, dst.0, carries_gradients),
                            |position| first_own + position,
                        );
                    let by_receiver = &mut self.channels[channel].by_receiver;
                    let (src, send_idx) = ((rank_idx, op_idx), by_receiver.len());
                    by_receiver.push(self.messages.len());
                    self.traffic[rank_idx][op_idx].outputs[part_idx] = Some(self.messages.len());
                    self.messages.push(Message { src, dst, channel, send_idx });
                }
            }
        }
        for (message_idx, message) in self.messages.iter().enumerate() {
            let inputs = &mut self.traffic[message.dst.0][message.dst.1].inputs;
            let free = usize::from(inputs[0].is_some());
            inputs[free] = Some(message_idx);
        }
        for channel in &mut self.channels {
            channel.by_receiver.sort_by_key(|message_idx| self.messages[*message_idx].dst);
        }
        for neighbours in &mut self.neighbours {
            neighbours.sort_unstable();
            neighbours.dedup();
        }
    }

    /// Opens a channel; the sender's others begin at `first_own`.
    fn add_channel(
        &mut self,
        first_own: usize,
        src_rank_idx: usize,
        dst_rank_idx: usize,
        carries_gradients: bool,
    ) -> usize {
        let same_wire =
            self.channels[first_own..].iter().find(|own| own.dst_rank_idx == dst_rank_idx);
        let link_idx = same_wire.map_or(self.num_links, |own| own.link_idx);
        self.num_links = self.num_links.max(link_idx + 1);
        let by_receiver = Vec::new();
        self.channels.push(Channel { dst_rank_idx, carries_gradients, link_idx, by_receiver });
        self.neighbours[src_rank_idx].push(dst_rank_idx);
        self.neighbours[dst_rank_idx].push(src_rank_idx);
        self.channels.len() - 1
    }
}

/// Returns the work on the next pp_stage that waits for this one's result.
fn next_work(schedule: &Schedule, kind: OpKind, cell: Cell) -> Option<(OpKind, Cell)> {
    let stage = cell.pp_stage_idx;
    let (needed, next_stage) = match kind {
        OpKind::F if (stage as usize) + 1 < schedule.num_pp_stages() => (OpKind::F, stage + 1),
        OpKind::B | OpKind::I if stage > 0 => (OpKind::I, stage - 1),
        _ => return None,
    };
    let next = schedule.placement.at_stage(schedule.num_pp_ranks(), cell, next_stage);
    Some((needed, next))
}

/// Returns the work on the previous pp_stage whose result this one needs.
fn previous_work(schedule: &Schedule, kind: OpKind, cell: Cell) -> Option<(OpKind, Cell)> {
    let stage = cell.pp_stage_idx;
    let (needed, previous_stage) = match kind {
        OpKind::F if stage > 0 => (OpKind::F, stage - 1),
        OpKind::B | OpKind::I if (stage as usize) + 1 < schedule.num_pp_stages() => {
            (OpKind::I, stage + 1)
        }
        _ => return None,
    };
    let previous = schedule.placement.at_stage(schedule.num_pp_ranks(), cell, previous_stage);
    Some((needed, previous))
}

const NOT_DONE: u32 = u32::MAX;

/// Where each cell's forward, input gradient and weight gradient stand in its rank's order.
struct WorkTable {
    forward: Vec<u32>,
    input_gradient: Vec<u32>,
    weight_gradient: Vec<u32>,
}

impl WorkTable {
    /// Enters all work; refuses work in the wrong place, done twice or never.
    fn fill(schedule: &Schedule) -> Result<Self, Problem> {
        let num_cells = schedule.num_chunks * schedule.num_pp_stages();
        let mut table = Self {
            forward: vec![NOT_DONE; num_cells],
            input_gradient: vec![NOT_DONE; num_cells],
            weight_gradient: vec![NOT_DONE; num_cells],
        };
        for (rank_idx, ops) in schedule.ranks.iter().enumerate() {
            for (op_idx, op) in ops.iter().enumerate() {
                let problem = |fault| Problem { rank_idx, op: Some((op_idx, *op)), fault };
                for (kind, cell) in op.parts() {
                    check_place(schedule, rank_idx, cell).map_err(problem)?;
                    table.enter(schedule, kind, cell, op_idx).map_err(problem)?;
                }
            }
        }
        table.check_complete(schedule)?;
        Ok(table)
    }

    fn enter(
        &mut self,
        schedule: &Schedule,
        kind: OpKind,
        cell: Cell,
        op_idx: usize,
    ) -> Result<(), Fault> {
        let cell_idx = cell_index(schedule, cell);
        let columns: &mut [&mut Vec<u32>] = match kind {
            OpKind::F => &mut [&mut self.forward],
            OpKind::I => &mut [&mut self.input_gradient],
            OpKind::W => &mut [&mut self.weight_gradient],
            OpKind::B => &mut [&mut self.input_gradient, &mut self.weight_gradient],
        };
        for column in columns {
            let first_op_idx = column[cell_idx];
            if first_op_idx != NOT_DONE {
                let first_op_idx = first_op_idx as usize;
                return Err(Fault::Twice { work: (kind, cell), first_op_idx });
            }
            column[cell_idx] = op_idx as u32;
        }
        Ok(())
    }

    fn check_complete(&self, schedule: &Schedule) -> Result<(), Problem> {
        let num_pp_ranks = schedule.num_pp_ranks();
        for pipe in 0..schedule.placement.num_pipes() {
            for chunk_idx in 0..schedule.num_chunks_per_pipe() as u32 {
                for pp_stage_idx in 0..schedule.num_pp_stages() as u32 {
                    let entry = Cell { direction: pipe as u8, pp_stage_idx: 0, chunk_idx };
                    let cell = schedule.placement.at_stage(num_pp_ranks, entry, pp_stage_idx);
                    let columns = [
                        (OpKind::F, &self.forward),
                        (OpKind::I, &self.input_gradient),
                        (OpKind::W, &self.weight_gradient),
                    ];
                    for (kind, column) in columns {
                        if column[cell_index(schedule, cell)] == NOT_DONE {
                            let rank_idx = schedule.placement.rank_of(num_pp_ranks, cell);
                            let fault = Fault::Missing(kind, cell);
                            return Err(Problem { rank_idx, op: None, fault });
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Refuses work that comes before what it needs on its own rank.
    fn check_order(&self, schedule: &Schedule) -> Result<(), Problem> {
        for (rank_idx, ops) in schedule.ranks.iter().enumerate() {
            for (op_idx, op) in ops.iter().enumerate() {
                for (kind, cell) in op.parts() {
                    let own = match kind {
                        OpKind::F => None,
                        OpKind::B | OpKind::I => Some((OpKind::F, cell)),
                        OpKind::W => Some((OpKind::I, cell)),
                    };
                    let previous = previous_work(schedule, kind, cell);
                    for (needed, of) in own.into_iter().chain(previous) {
                        let place = self.place_of(schedule, needed, of);
                        if place.0 == rank_idx && place.1 >= op_idx {
                            let fault =
                                Fault::BeforeItsInput { work: (kind, cell), needs: (needed, of) };
                            return Err(Problem { rank_idx, op: Some((op_idx, *op)), fault });
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns the rank and position of F, of I or of the B that stands for it.
    fn place_of(&self, schedule: &Schedule, kind: OpKind, cell: Cell) -> (usize, usize) {
        let column = if kind == OpKind::F { &self.forward } else { &self.input_gradient };
        let rank_idx = schedule.placement.rank_of(schedule.num_pp_ranks(), cell);
        (rank_idx, column[cell_index(schedule, cell)] as usize)
    }
}

fn check_place(schedule: &Schedule, rank_idx: usize, cell: Cell) -> Result<(), Fault> {
    let num_pp_ranks = schedule.num_pp_ranks();
    if !schedule.placement.holds(num_pp_ranks, cell.direction, cell.pp_stage_idx) {
        return Err(Fault::NoSuchStage(cell));
    }
    let num_chunks = schedule.num_chunks_per_pipe();
    if cell.chunk_idx as usize >= num_chunks {
        return Err(Fault::NoSuchChunk { cell, num_chunks });
    }
    let expected = schedule.placement.rank_of(num_pp_ranks, cell);
    if rank_idx != expected {
        return Err(Fault::WrongRank { cell, expected });
    }
    Ok(())
}

fn cell_index(schedule: &Schedule, cell: Cell) -> usize {
    let pipe_idx = schedule.placement.pipe_of(cell);
    let chunk_idx = pipe_idx * schedule.num_chunks_per_pipe() + cell.chunk_idx as usize;
    chunk_idx * schedule.num_pp_stages() + cell.pp_stage_idx as usize
}

/// Returns the operation's position with the operation, as problems name it.
pub(crate) fn op_at(schedule: &Schedule, rank_idx: usize, op_idx: usize) -> (usize, Op) {
    (op_idx, schedule.ranks[rank_idx][op_idx])
}
