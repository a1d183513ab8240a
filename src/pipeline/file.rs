//! Schedules in JSON files.

use std::collections::VecDeque;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::pipeline::op::ShortOp;
use crate::pipeline::{Cell, Op, OpKind, Placement, Schedule};
use crate::read_file::read_file;
use crate::{Error, Result};

/// Most bytes of a file; a schedule of a million ops takes some 20 MB.
const MAX_FILE_BYTES: u64 = 1 << 30;
const FORMAT: &str = "pipeline schedule (JSON)";

#[derive(Deserialize, Serialize)]
struct ScheduleFile {
    placement: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    num_virtual_stages: Option<u32>,
    num_chunks: usize,
    ranks: Vec<RankFile>,
}

#[derive(Deserialize, Serialize)]
struct RankFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rank: Option<usize>,
    ops: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chunks: Option<Vec<Vec<u32>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pp_stages: Option<Vec<Vec<u32>>>,
}

impl Schedule {
    /// Reads a schedule of one's own from a JSON file; see [`from_json`](Self::from_json).
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be read, else as [`from_json`](Self::from_json).
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read_file("read pipeline schedule", path, MAX_FILE_BYTES)?;
        let json = str::from_utf8(&bytes).map_err(|error| Error::Format {
            path: path.into(),
            format: FORMAT,
            problem: error.to_string(),
        })?;
        Self::from_json(json, path)
    }

    /// Parses a schedule of one's own.
    ///
    /// ```json
    /// {"placement": "linear", "num_chunks": 2,
    ///  "ranks": [{"ops": ["F0", "F0", "B0", "B0"]},
    ///            {"ops": ["F0", "B0", "F0", "B0"], "chunks": [[0], [0], [1], [1]]}]}
    /// ```
    ///
    /// - `placement`: `linear`, `interleaved` (with `num_virtual_stages`), `bidirectional` or `v`.
    /// - `num_chunks`: of the whole step, both directions together.
    /// - `ops`: `F0`, `B0`, `I0`, `W`, `F0B1`; the digit is the direction.
    /// - `chunks`, optional: for each operation the chunk of each of its parts. Left out, chunks
    ///   count up from 0 for each direction, forwards and backwards apart, and W takes the
    ///   oldest I. A given chunk of a W means its oldest I.
    /// - `pp_stages`: like `chunks`, the pp_stage of each part; required if interleaved, else
    ///   optional, as it follows from rank and direction.
    /// - Other members are ignored, so what `moekit pipeline --json` prints is such a file.
    ///
    /// The schedule is not checked yet: see [`check`](crate::pipeline::check).
    ///
    /// # Errors
    ///
    /// [`Error::Format`] that names `path`, the rank and the operation where it does not parse;
    /// [`Error::Value`] as [`from_ops`](Self::from_ops).
    pub fn from_json(json: &str, path: &Path) -> Result<Self> {
        let refuse = |problem: String| Error::Format { path: path.into(), format: FORMAT, problem };
        let file: ScheduleFile =
            serde_json::from_str(json).map_err(|error| refuse(error.to_string()))?;
        let placement = file.placement().map_err(refuse)?;
        let num_pp_ranks = file.ranks.len();
        // The size bounds the arithmetic on pp_stages below.
        let empty = Self::from_ops(placement, file.num_chunks, vec![Vec::new(); num_pp_ranks])?;
        let mut ranks = Vec::with_capacity(num_pp_ranks);
        for (rank_idx, rank) in file.ranks.iter().enumerate() {
            let reader = RankReader::new(placement, num_pp_ranks, rank_idx, rank);
            let ops = reader.and_then(RankReader::read);
            ranks.push(ops.map_err(|problem| refuse(format!("rank {rank_idx}{problem}")))?);
        }
        Ok(Self { ranks, ..empty })
    }

    /// Returns the schedule as JSON that [`from_json`](Self::from_json) reads, with chunks and
    /// pp_stages.
    #[allow(clippy::missing_panics_doc, reason = "strings and integers always fit JSON")]
    pub fn to_json(&self) -> serde_json::Value {
        let num_virtual_stages = match self.placement {
            Placement::Interleaved { num_virtual_stages } => Some(num_virtual_stages),
            _ => None,
        };
        let of_parts = |ops: &[Op], value: fn(Cell) -> u32| {
            ops.iter().map(|op| op.parts().map(|(_, cell)| value(cell)).collect()).collect()
        };
        let rank_file = |(rank_idx, ops): (usize, &Vec<Op>)| RankFile {
            rank: Some(rank_idx),
            ops: ops.iter().map(Op::to_string).collect(),
            chunks: Some(of_parts(ops, |cell| cell.chunk_idx)),
            pp_stages: Some(of_parts(ops, |cell| cell.pp_stage_idx)),
        };
        let file = ScheduleFile {
            placement: self.placement.name().to_owned(),
            num_virtual_stages,
            num_chunks: self.num_chunks,
            ranks: self.ranks.iter().enumerate().map(rank_file).collect(),
        };
        serde_json::to_value(file).expect("strings and integers always fit JSON")
    }
}

impl ScheduleFile {
    fn placement(&self) -> Result<Placement, String> {
        match (self.placement.as_str(), self.num_virtual_stages) {
            ("linear", None) => Ok(Placement::Linear),
            ("bidirectional", None) => Ok(Placement::Bidirectional),
            ("v", None) => Ok(Placement::VShape),
            ("interleaved", Some(num_virtual_stages)) => {
                Ok(Placement::Interleaved { num_virtual_stages })
            }
            ("interleaved", None) => {
                Err("`placement` is interleaved, so `num_virtual_stages` is required".to_owned())
            }
            ("linear" | "bidirectional" | "v", Some(_)) => {
                Err("`num_virtual_stages` goes with `placement` interleaved only".to_owned())
            }
            (other, _) => Err(format!(
                "`placement` is `{other}`, expected linear, interleaved, bidirectional or v"
            )),
        }
    }
}

/// Gives every operation of a rank its cells.
struct RankReader<'a> {
    placement: Placement,
    num_pp_ranks: usize,
    rank_idx: usize,
    file: &'a RankFile,
    num_forwards: [u32; 2],
    num_backwards: [u32; 2],
    /// I whose W has not come yet, oldest first.
    deferred: VecDeque<Cell>,
}

impl<'a> RankReader<'a> {
    fn new(
        placement: Placement,
        num_pp_ranks: usize,
        rank_idx: usize,
        file: &'a RankFile,
    ) -> Result<Self, String> {
        if let Some(rank) = file.rank.filter(|rank| *rank != rank_idx) {
            return Err(format!(": `rank` is {rank}, expected ranks in order from 0"));
        }
        for (name, parts) in [("chunks", &file.chunks), ("pp_stages", &file.pp_stages)] {
            if let Some(parts) = parts.as_ref().filter(|parts| parts.len() != file.ops.len()) {
                let (got, expected) = (parts.len(), file.ops.len());
                return Err(format!(": `{name}` has {got} entries, expected {expected} as `ops`"));
            }
        }
        if matches!(placement, Placement::Interleaved { .. }) && file.pp_stages.is_none() {
            return Err(": `pp_stages` is required if interleaved".to_owned());
        }
        Ok(Self {
            placement,
            num_pp_ranks,
            rank_idx,
            file,
            num_forwards: [0; 2],
            num_backwards: [0; 2],
            deferred: VecDeque::new(),
        })
    }

    fn read(mut self) -> Result<Vec<Op>, String> {
        let file = self.file;
        let one = |(op_idx, text): (usize, &String)| {
            self.read_op(op_idx, text)
                .map_err(|problem| format!(", op {op_idx} (`{text}`): {problem}"))
        };
        file.ops.iter().enumerate().map(one).collect()
    }

    fn read_op(&mut self, op_idx: usize, text: &str) -> Result<Op, String> {
        let short = ShortOp::parse(text).ok_or("expected F0, B0, I0, W or F0B1")?;
        let num_parts = if matches!(short, ShortOp::Overlapped(..)) { 2 } else { 1 };
        for (name, parts) in [("chunks", &self.file.chunks), ("pp_stages", &self.file.pp_stages)] {
            if parts.as_ref().is_some_and(|parts| parts[op_idx].len() != num_parts) {
                return Err(format!("its entry in `{name}` should have {num_parts} numbers"));
            }
        }
        match short {
            ShortOp::Directed(kind, direction) => {
                let cell = self.cell(op_idx, 0, kind, direction)?;
                if kind == OpKind::I {
                    self.deferred.push_back(cell);
                }
                Ok(Op::Single(kind, cell))
            }
            ShortOp::Overlapped(forward, backward) => Ok(Op::Overlapped {
                forward: self.cell(op_idx, 0, OpKind::F, forward)?,
                backward: self.cell(op_idx, 1, OpKind::B, backward)?,
            }),
            ShortOp::Weight => {
                let chunk_idx = self.given(&self.file.chunks, op_idx, 0);
                let pp_stage_idx = self.given(&self.file.pp_stages, op_idx, 0);
                let is_meant = |cell: &Cell| {
                    chunk_idx.is_none_or(|chunk_idx| chunk_idx == cell.chunk_idx)
                        && pp_stage_idx.is_none_or(|stage| stage == cell.pp_stage_idx)
                };
                let position = self.deferred.iter().position(is_meant);
                let cell = position.and_then(|position| self.deferred.remove(position));
                Ok(Op::Single(OpKind::W, cell.ok_or("no I before it waits for this W")?))
            }
        }
    }

    fn cell(
        &mut self,
        op_idx: usize,
        part_idx: usize,
        kind: OpKind,
        direction: u8,
    ) -> Result<Cell, String> {
        let counters =
            if kind == OpKind::F { &mut self.num_forwards } else { &mut self.num_backwards };
        let counter = &mut counters[usize::from(direction)];
        let counted = *counter;
        *counter += 1;
        let chunk_idx = self.given(&self.file.chunks, op_idx, part_idx).unwrap_or(counted);
        let pp_stage_idx = self
            .given(&self.file.pp_stages, op_idx, part_idx)
            .or_else(|| self.placement.only_stage_of(self.num_pp_ranks, self.rank_idx, direction))
            .ok_or_else(|| format!("this placement has no direction {direction}"))?;
        Ok(Cell { direction, pp_stage_idx, chunk_idx })
    }

    fn given(&self, parts: &Option<Vec<Vec<u32>>>, op_idx: usize, part_idx: usize) -> Option<u32> {
        parts.as_ref().map(|parts| parts[op_idx][part_idx])
    }
}
