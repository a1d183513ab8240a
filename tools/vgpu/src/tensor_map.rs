//! Tensor maps: how the TMA unit walks a tensor in global memory. The driver's `CUtensorMap` is
//! opaque; this machine has its own encoding of 128 bytes.

/// Bytes of an encoded map, and the alignment of the memory that holds it is half of that.
pub const TENSOR_MAP_BYTES: usize = 128;
/// First bytes of an encoded map.
const MAGIC: [u8; 4] = *b"vTM1";

/// Element type of a tensor map; the numbers are the driver's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TensorType {
    /// 8 bits.
    U8 = 0,
    /// 16 bits.
    U16 = 1,
    /// 32 bits.
    U32 = 2,
    /// 32 bits, signed.
    I32 = 3,
    /// 64 bits.
    U64 = 4,
    /// 64 bits, signed.
    I64 = 5,
    /// FP16.
    F16 = 6,
    /// FP32.
    F32 = 7,
    /// FP64.
    F64 = 8,
    /// BF16.
    Bf16 = 9,
    /// FP32, subnormals flushed to zero.
    F32Ftz = 10,
    /// TF32.
    Tf32 = 11,
    /// TF32, subnormals flushed to zero.
    Tf32Ftz = 12,
}

impl TensorType {
    const ALL: [TensorType; 13] = [
        TensorType::U8,
        TensorType::U16,
        TensorType::U32,
        TensorType::I32,
        TensorType::U64,
        TensorType::I64,
        TensorType::F16,
        TensorType::F32,
        TensorType::F64,
        TensorType::Bf16,
        TensorType::F32Ftz,
        TensorType::Tf32,
        TensorType::Tf32Ftz,
    ];

    /// By the driver's number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }

    /// Bytes of an element.
    #[must_use]
    pub fn bytes(self) -> u32 {
        match self {
            TensorType::U8 => 1,
            TensorType::U16 | TensorType::F16 | TensorType::Bf16 => 2,
            TensorType::U64 | TensorType::I64 | TensorType::F64 => 8,
            _ => 4,
        }
    }

    /// Out-of-bounds elements may be filled with NaN.
    #[must_use]
    pub fn is_float(self) -> bool {
        self as u8 >= TensorType::F16 as u8
    }
}

/// How a box lies in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Swizzle {
    /// As in memory.
    None = 0,
    /// 16-byte chunks exchanged within 32 bytes.
    Bytes32 = 1,
    /// Within 64 bytes.
    Bytes64 = 2,
    /// Within 128 bytes.
    Bytes128 = 3,
}

impl Swizzle {
    /// By the driver's number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        [Swizzle::None, Swizzle::Bytes32, Swizzle::Bytes64, Swizzle::Bytes128]
            .get(number as usize)
            .copied()
    }

    /// Longest inner dimension of a box, in bytes; `None` without a swizzle.
    #[must_use]
    pub fn span(self) -> Option<u32> {
        match self {
            Swizzle::None => None,
            Swizzle::Bytes32 => Some(32),
            Swizzle::Bytes64 => Some(64),
            Swizzle::Bytes128 => Some(128),
        }
    }

    /// Where a byte of shared memory really lies. PTX ISA, "Swizzling modes".
    #[must_use]
    pub fn apply(self, address: u32) -> u32 {
        let mask = self.span().map_or(0, |span| span - 16);
        address ^ (address >> 3 & mask)
    }
}

/// A tensor in global memory and the box that one copy moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorMap {
    /// Element type.
    pub element: TensorType,
    /// Dimensions, 1 to 5.
    pub rank: u32,
    /// Global address of the first element, a multiple of 16.
    pub address: u64,
    /// Elements of each dimension, the innermost first; 1 beyond the rank.
    pub dims: [u64; 5],
    /// Bytes from one element to the next in dimensions 1 to 4, multiples of 16; 0 beyond the rank.
    pub strides: [u64; 4],
    /// Elements of the box; 1 beyond the rank.
    pub box_dims: [u32; 5],
    /// Every how many elements one is taken; 1 beyond the rank.
    pub element_strides: [u32; 5],
    /// Layout in shared memory.
    pub swizzle: Swizzle,
    /// Elements outside of the tensor are NaN rather than zero.
    pub fill_nan: bool,
}

/// A tensor map that the hardware would not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tensor map: `{arg}` is {got}, expected {expected}")]
pub struct TensorMapError {
    /// Argument of `cuTensorMapEncodeTiled`.
    pub arg: &'static str,
    /// What would have been accepted.
    pub expected: String,
    /// What came.
    pub got: String,
}

impl TensorMap {
    /// Checks the map by the rules of `cuTensorMapEncodeTiled` without interleaving.
    ///
    /// # Errors
    ///
    /// [`TensorMapError`] with the first argument that breaks a rule.
    pub fn check(&self) -> Result<(), TensorMapError> {
        let refuse =
            |arg, expected: String, got: String| Err(TensorMapError { arg, expected, got });
        if !(1..=5).contains(&self.rank) {
            return refuse("tensorRank", "1 to 5".into(), self.rank.to_string());
        }
        if !self.address.is_multiple_of(16) {
            let got = format!("{:#x}", self.address);
            return refuse("globalAddress", "a multiple of 16".into(), got);
        }
        let rank = self.rank as usize;
        for dim in &self.dims[..rank] {
            if !(1..=1 << 32).contains(dim) {
                return refuse("globalDim", "1 to 2^32".into(), dim.to_string());
            }
        }
        for stride in &self.strides[..rank - 1] {
            if !stride.is_multiple_of(16) || *stride >= 1 << 40 {
                let expected = "a multiple of 16 below 2^40".into();
                return refuse("globalStrides", expected, stride.to_string());
            }
        }
        for (extent, step) in self.box_dims.iter().zip(&self.element_strides).take(rank) {
            if !(1..=256).contains(extent) {
                return refuse("boxDim", "1 to 256".into(), extent.to_string());
            }
            if !(1..=8).contains(step) {
                return refuse("elementStrides", "1 to 8".into(), step.to_string());
            }
        }
        let inner = self.box_dims[0] * self.element.bytes();
        if !inner.is_multiple_of(16) {
            let expected = "an inner extent of a multiple of 16 bytes".into();
            return refuse("boxDim", expected, format!("{inner} bytes"));
        }
        if let Some(span) = self.swizzle.span().filter(|span| inner > *span) {
            let expected = format!("an inner extent of at most {span} bytes");
            return refuse("boxDim", expected, format!("{inner} bytes"));
        }
        if self.fill_nan && !self.element.is_float() {
            let got = format!("NaN for {:?}", self.element);
            return refuse("oobFill", "zero for integers".into(), got);
        }
        Ok(())
    }

    /// Elements that a copy takes along each dimension.
    #[must_use]
    pub fn box_counts(&self) -> [u32; 5] {
        [0, 1, 2, 3, 4].map(|i| self.box_dims[i].div_ceil(self.element_strides[i].max(1)))
    }

    /// Bytes of the box in shared memory, out-of-bounds elements included.
    #[must_use]
    pub fn box_bytes(&self) -> u32 {
        self.box_counts().iter().product::<u32>() * self.element.bytes()
    }

    /// The encoded map.
    #[must_use]
    pub fn encode(&self) -> [u8; TENSOR_MAP_BYTES] {
        let mut out = Vec::with_capacity(TENSOR_MAP_BYTES);
        out.extend_from_slice(&MAGIC);
        let fill = u8::from(self.fill_nan);
        out.extend_from_slice(&[self.element as u8, self.rank as u8, self.swizzle as u8, fill]);
        out.extend_from_slice(&self.address.to_le_bytes());
        // 2^32 does not fit 32 bits, the last position does.
        self.dims.iter().for_each(|dim| out.extend((dim.wrapping_sub(1) as u32).to_le_bytes()));
        self.strides.iter().for_each(|stride| out.extend(stride.to_le_bytes()));
        self.box_dims.iter().for_each(|extent| out.extend((*extent as u16).to_le_bytes()));
        self.element_strides.iter().for_each(|step| out.push(*step as u8));
        let mut bytes = [0; TENSOR_MAP_BYTES];
        bytes[..out.len()].copy_from_slice(&out);
        bytes
    }

    /// Reads an encoded map; `None` if the bytes are none.
    #[must_use]
    pub fn decode(bytes: &[u8; TENSOR_MAP_BYTES]) -> Option<Self> {
        let (magic, rest) = bytes.split_at(4);
        let u64_at = |at: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(eight)
        };
        let u32_at = |at: usize| (u64_at(at) & 0xffff_ffff) as u32;
        let five = [0usize, 1, 2, 3, 4];
        (magic == MAGIC).then_some(())?;
        Some(TensorMap {
            element: TensorType::from_number(rest[0].into())?,
            rank: rest[1].into(),
            swizzle: Swizzle::from_number(rest[2].into())?,
            fill_nan: rest[3] != 0,
            address: u64_at(8),
            dims: five.map(|i| u64::from(u32_at(16 + 4 * i)) + 1),
            strides: [0, 1, 2, 3].map(|i| u64_at(36 + 8 * i)),
            box_dims: five.map(|i| u32_at(68 + 2 * i) & 0xffff),
            element_strides: five.map(|i| bytes[78 + i].into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> TensorMap {
        TensorMap {
            element: TensorType::Bf16,
            rank: 3,
            address: 0x100_0000_0100,
            dims: [1 << 32, 7168, 3, 1, 1],
            strides: [1 << 30, 16, 0, 0],
            box_dims: [64, 256, 1, 1, 1],
            element_strides: [1, 3, 1, 1, 1],
            swizzle: Swizzle::Bytes128,
            fill_nan: true,
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        assert_eq!(TensorMap::decode(&map().encode()), Some(map()));
        assert_eq!(TensorMap::decode(&[0; TENSOR_MAP_BYTES]), None);
    }

    #[test]
    fn a_box_counts_every_third_element() {
        assert_eq!(map().box_counts(), [64, 86, 1, 1, 1]);
        assert_eq!(map().box_bytes(), 64 * 86 * 2);
    }

    #[test]
    fn each_rule_names_its_argument() {
        assert_eq!(map().check(), Ok(()));
        let refused = |map: TensorMap, arg: &str| assert_eq!(map.check().unwrap_err().arg, arg);
        refused(TensorMap { rank: 6, ..map() }, "tensorRank");
        refused(TensorMap { address: 8, ..map() }, "globalAddress");
        refused(TensorMap { dims: [0, 1, 1, 1, 1], ..map() }, "globalDim");
        refused(TensorMap { strides: [8, 16, 0, 0], ..map() }, "globalStrides");
        refused(TensorMap { box_dims: [64, 257, 1, 1, 1], ..map() }, "boxDim");
        refused(TensorMap { box_dims: [128, 1, 1, 1, 1], ..map() }, "boxDim");
        refused(TensorMap { box_dims: [4, 1, 1, 1, 1], ..map() }, "boxDim");
        refused(TensorMap { element_strides: [9, 1, 1, 1, 1], ..map() }, "elementStrides");
        refused(TensorMap { element: TensorType::U16, ..map() }, "oobFill");
    }

    #[test]
    fn swizzles_exchange_chunks_by_the_row() {
        // Row 5 of 128-byte rows: chunk 2 goes to chunk 2 ^ 5.
        assert_eq!(Swizzle::Bytes128.apply(5 * 128 + 2 * 16 + 3), 5 * 128 + 7 * 16 + 3);
        // Rows of 64 bytes: the pattern changes every second row.
        assert_eq!(Swizzle::Bytes64.apply(2 * 64), 2 * 64 + 16);
        // Rows of 32 bytes: every fourth.
        assert_eq!(Swizzle::Bytes32.apply(4 * 32), 4 * 32 + 16);
        assert_eq!(Swizzle::None.apply(0x3ff), 0x3ff);
    }
}
