//! Operations: what a rank does next.

use std::fmt;

use serde::Serialize;

/// One chunk on one pp_stage: the unit of work of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell {
    /// 0 = from the first rank to the last, 1 = the other way (DualPipeV: 0 down, 1 up).
    pub direction: u8,
    /// Position in the model, counted along the chunk's way through it.
    pub pp_stage_idx: u32,
    /// Number of the chunk; bidirectional schedules count each direction from 0.
    pub chunk_idx: u32,
}

/// What one operation does to one [`Cell`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum OpKind {
    /// Forward.
    F,
    /// Full backward: inputs and weights.
    B,
    /// Backward for inputs only; the weights' gradients follow in a [`OpKind::W`].
    I,
    /// Weight gradients of an earlier [`OpKind::I`].
    W,
}

impl OpKind {
    /// Returns the letter that the short form prints.
    pub fn letter(self) -> char {
        match self {
            Self::F => 'F',
            Self::B => 'B',
            Self::I => 'I',
            Self::W => 'W',
        }
    }
}

/// One entry of a rank's order of work.
///
/// Prints as `F0`, `B1`, `I0`, `W` or `F0B1`; the digit is the direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// One kind of work on one cell.
    Single(OpKind, Cell),
    /// A forward and a full backward whose computation and communication overlap.
    Overlapped {
        /// Cell that goes forward.
        forward: Cell,
        /// Cell that goes backward.
        backward: Cell,
    },
}

impl Op {
    /// Returns the one or two (kind, cell) that this operation consists of, forward first.
    pub fn parts(self) -> impl Iterator<Item = (OpKind, Cell)> {
        let (first, second) = match self {
            Self::Single(kind, cell) => ((kind, cell), None),
            Self::Overlapped { forward, backward } => {
                ((OpKind::F, forward), Some((OpKind::B, backward)))
            }
        };
        std::iter::once(first).chain(second)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, cell) in self.parts() {
            match kind {
                OpKind::W => write!(f, "W")?,
                _ => write!(f, "{}{}", kind.letter(), cell.direction)?,
            }
        }
        Ok(())
    }
}

/// The short form of an operation, before its chunk and pp_stage are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShortOp {
    /// F, B or I with a direction.
    Directed(OpKind, u8),
    /// W, which names no direction.
    Weight,
    /// A pair: directions of the forward and of the backward.
    Overlapped(u8, u8),
}

impl ShortOp {
    /// Parses `F0`, `B1`, `I0`, `W` or `F0B1`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.as_bytes() {
            b"W" => Some(Self::Weight),
            [kind, direction] => {
                let kind = match kind {
                    b'F' => OpKind::F,
                    b'B' => OpKind::B,
                    b'I' => OpKind::I,
                    _ => return None,
                };
                Some(Self::Directed(kind, parse_direction(*direction)?))
            }
            [b'F', forward, b'B', backward] => {
                Some(Self::Overlapped(parse_direction(*forward)?, parse_direction(*backward)?))
            }
            _ => None,
        }
    }
}

fn parse_direction(digit: u8) -> Option<u8> {
    matches!(digit, b'0' | b'1').then(|| digit - b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_reads_back_and_refuses_everything_else() {
        let cell = |direction| Cell { direction, pp_stage_idx: 3, chunk_idx: 7 };
        let pair = Op::Overlapped { forward: cell(1), backward: cell(0) };
        assert_eq!(pair.to_string(), "F1B0");
        assert_eq!(ShortOp::parse("F1B0"), Some(ShortOp::Overlapped(1, 0)));
        assert_eq!(Op::Single(OpKind::W, cell(1)).to_string(), "W");
        assert_eq!(ShortOp::parse("W"), Some(ShortOp::Weight));
        for (kind, text) in [(OpKind::F, "F0"), (OpKind::B, "B0"), (OpKind::I, "I0")] {
            assert_eq!(Op::Single(kind, cell(0)).to_string(), text);
            assert_eq!(ShortOp::parse(text), Some(ShortOp::Directed(kind, 0)));
        }
        for text in ["", "F", "W0", "F2", "f0", "B0F1", "F0B", "F0B1W", "X0", "F0 ", "é"] {
            assert_eq!(ShortOp::parse(text), None, "{text:?}");
        }
    }
}
