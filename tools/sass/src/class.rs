//! Kinds of instructions.

use std::fmt;

/// What an instruction occupies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Matrix products.
    Tensor,
    /// FP32 and packed 16-bit arithmetic.
    Float,
    /// Special functions: reciprocal, exponential, and conversions that share their unit.
    Special,
    /// Integer arithmetic, logic, comparisons.
    Integer,
    /// Moves between registers.
    Move,
    /// Work on uniform registers.
    Uniform,
    /// Global and generic memory.
    Global,
    /// Shared memory.
    Shared,
    /// Local memory: spills and stacks.
    Local,
    /// Constants.
    Constant,
    /// Between the lanes of a warp.
    Warp,
    /// Barriers, fences, asynchronous copies.
    Sync,
    /// Branches and their like.
    Control,
    /// What none of the above names.
    Other,
}

impl Class {
    /// The class of an operation without modifiers.
    pub fn of(opcode: &str) -> Self {
        match opcode {
            "HGMMA" | "QGMMA" | "IGMMA" | "BGMMA" | "HMMA" | "IMMA" | "QMMA" | "DMMA" => {
                Self::Tensor
            }
            "FFMA" | "FADD" | "FMUL" | "FMNMX" | "FSEL" | "FSETP" | "FSET" | "FCHK" | "FRND"
            | "HADD2" | "HFMA2" | "HMUL2" | "HMNMX2" | "HSETP2" | "HSET2" => Self::Float,
            "MUFU" | "F2F" | "F2FP" | "F2I" | "I2F" | "I2FP" | "I2I" | "POPC" | "FLO" | "BREV" => {
                Self::Special
            }
            "IADD3" | "IMAD" | "IABS" | "IMNMX" | "VIMNMX" | "VIADD" | "VIADDMNMX" | "ISETP"
            | "LOP3" | "LEA" | "SHF" | "SHL" | "SHR" | "PRMT" | "SGXT" | "BMSK" | "LEPC"
            | "PLOP3" | "IDP" => Self::Integer,
            "MOV" | "SEL" | "CS2R" | "P2R" | "R2P" | "S2R" => Self::Move,
            "LDG" | "STG" | "LD" | "ST" | "ATOM" | "ATOMG" | "RED" | "REDG" | "CCTL" => {
                Self::Global
            }
            "LDS" | "STS" | "ATOMS" | "LDSM" | "STSM" | "MAPA" => Self::Shared,
            "LDL" | "STL" => Self::Local,
            "LDC" | "LDCU" => Self::Constant,
            "SHFL" | "VOTE" | "VOTEU" | "MATCH" | "REDUX" | "CREDUX" | "ELECT" => Self::Warp,
            "BAR" | "MEMBAR" | "FENCE" | "SYNCS" | "WARPSYNC" | "ERRBAR" | "DEPBAR" | "LDGSTS"
            | "LDGDEPBAR" | "WARPGROUP" | "UTMALDG" | "UTMASTG" | "UTMAREDG" | "UTMACMDFLUSH"
            | "UTMAPF" | "UCGABAR_ARV" | "UCGABAR_WAIT" | "UBLKCP" | "ACQBULK" | "PREEXIT"
            | "B2R" | "R2B" | "USETMAXREG" | "NANOSLEEP" => Self::Sync,
            "BRA" | "BRX" | "JMP" | "CALL" | "RET" | "EXIT" | "BSSY" | "BSYNC" | "BREAK"
            | "WARPSYNCALL" | "NOP" | "YIELD" | "BPT" | "KILL" => Self::Control,
            other if other.starts_with('U') || matches!(other, "R2UR" | "S2UR" | "R2UP") => {
                Self::Uniform
            }
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", format!("{self:?}").to_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spills_are_told_from_other_memory() {
        assert_eq!(Class::of("STL"), Class::Local);
        assert_eq!(Class::of("STG"), Class::Global);
        assert_eq!(Class::of("UMOV"), Class::Uniform);
        assert_eq!(Class::of("QGMMA").to_string(), "tensor");
    }
}
