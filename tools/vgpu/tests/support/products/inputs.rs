//! What the factors and the sum before are like.

/// What the inputs are like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pattern {
    /// All products within a factor of four, no sum before.
    Close,
    /// The sum before is about as large as the products.
    Sum,
    Spread,
    Wide,
    /// Any finite numbers.
    Any,
    /// Half of the products are the others' negatives, but for a few.
    Cancel,
    /// Subnormal numbers, and results.
    Small,
    /// Few products that are not zero.
    Sparse,
    /// Results beyond the largest number.
    Large,
    /// Infinities, NaN and zeros.
    Special,
    /// All products are zero.
    Alone,
    /// A product of 2^-140 less some that are smaller, where the exponents allow it.
    Tiny,
}

pub const PATTERNS: [Pattern; 12] = [
    Pattern::Close,
    Pattern::Sum,
    Pattern::Spread,
    Pattern::Wide,
    Pattern::Any,
    Pattern::Cancel,
    Pattern::Small,
    Pattern::Sparse,
    Pattern::Large,
    Pattern::Special,
    Pattern::Alone,
    Pattern::Tiny,
];

/// Bits of exponent and mantissa.
#[derive(Clone, Copy)]
pub struct Format {
    exponent: u32,
    mantissa: u32,
    /// The largest exponent holds numbers.
    is_finite: bool,
}

impl Format {
    pub fn of(ty: &str) -> Self {
        let (exponent, mantissa) = match ty {
            "f32" => (8, 23),
            "tf32" => (8, 10),
            "bf16" => (8, 7),
            "f16" => (5, 10),
            "e5m2" => (5, 2),
            _ => (4, 3),
        };
        Format { exponent, mantissa, is_finite: ty == "e4m3" }
    }

    pub fn is_long(self) -> bool {
        self.exponent == 8
    }

    /// The exponent of subnormal numbers, less one.
    pub fn lowest(self) -> i32 {
        1 - (1 << (self.exponent - 1))
    }

    fn highest(self) -> i32 {
        (1 << (self.exponent - 1)) - 1 + i32::from(self.is_finite)
    }

    pub fn power_of_two(self, exponent: i32) -> u32 {
        ((exponent - self.lowest()) as u32) << self.mantissa
    }

    pub fn negative(self, code: u32) -> u32 {
        code | 1 << (self.exponent + self.mantissa)
    }

    pub fn negated(self, code: u32) -> u32 {
        code ^ 1 << (self.exponent + self.mantissa)
    }

    fn zero_of(self, code: u32) -> u32 {
        code & 1 << (self.exponent + self.mantissa)
    }

    /// A number with an exponent in a range.
    pub fn draw(self, dice: &mut Dice, [low, high]: [i32; 2]) -> u32 {
        let exponent = dice.between(low, high).clamp(self.lowest(), self.highest());
        let field = (exponent - self.lowest()) as u32;
        let code = field << self.mantissa | dice.below(1 << self.mantissa);
        let nan = (1 << (self.exponent + self.mantissa)) - 1;
        let code = if self.is_finite && code == nan { code - 1 } else { code };
        code | dice.below(2) << (self.exponent + self.mantissa)
    }

    /// An infinity, a NaN or a zero.
    pub fn special(self, dice: &mut Dice) -> u32 {
        let ones = ((1 << self.exponent) - 1) << self.mantissa;
        let quiet = ones | 1 << (self.mantissa - 1);
        let all = ones | ((1 << self.mantissa) - 1);
        let codes =
            if self.is_finite { [0, all, all - 1, all] } else { [0, ones, ones | 1, quiet] };
        codes[dice.below(4) as usize] | dice.below(2) << (self.exponent + self.mantissa)
    }
}

/// SplitMix64.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    pub fn below(&mut self, count: u32) -> u32 {
        (self.next() % u64::from(count)) as u32
    }

    fn between(&mut self, low: i32, high: i32) -> i32 {
        low + self.below((high - low + 1) as u32) as i32
    }

    pub fn one_in(&mut self, count: u32) -> bool {
        self.below(count) == 0
    }
}

impl Pattern {
    /// Exponents of A, B and the sum before.
    pub fn exponents(self, a: Format, b: Format, sum: Format) -> [[i32; 2]; 3] {
        let (lowest, long) = (a.lowest() + b.lowest(), a.is_long());
        match self {
            Pattern::Close => [[0, 0], [0, 0], [0, 0]],
            Pattern::Sum => [[-1, 0], [-1, 0], [-6, 8]],
            Pattern::Spread | Pattern::Special => [[-3, 1], [-3, 1], [-16, 10]],
            Pattern::Wide => [[-7, 4], [-7, 4], [-30, 16]],
            Pattern::Alone => [[0, 0], [0, 0], [-140, 127]],
            Pattern::Tiny => [[-80, -76], [-80, -76], [0, 0]],
            Pattern::Any if long => [[-60, 60], [-60, 60], [-127, 127]],
            Pattern::Any => [[-15, 15], [-15, 15], [-20, 20]],
            Pattern::Cancel => [[-2, 2], [-2, 2], [-20, 2]],
            Pattern::Small if long => [[-127, -120], [-24, 4], [-130, -120]],
            Pattern::Small if sum.is_long() => [[-15, -10], [-15, -10], [lowest - 8, lowest + 8]],
            Pattern::Small => [[-15, -10], [-6, -2], [-16, -10]],
            Pattern::Sparse => [[-15, 0], [-1, 0], [-30, 6]],
            Pattern::Large if long => [[58, 64], [58, 63], [120, 127]],
            Pattern::Large if sum.is_long() => [[5, 15], [5, 15], [120, 127]],
            Pattern::Large => [[4, 8], [2, 6], [10, 15]],
        }
    }

    pub fn changes(self, format: Format, k: usize, code: u32, dice: &mut Dice) -> u32 {
        match self {
            Pattern::Small if dice.one_in(6) => format.zero_of(code),
            Pattern::Sparse if !dice.one_in(k as u32 / 3) => format.zero_of(code),
            Pattern::Special if dice.one_in(3 * k as u32) => format.special(dice),
            Pattern::Alone => format.zero_of(code),
            Pattern::Tiny if dice.one_in(2) => format.zero_of(code),
            _ => code,
        }
    }

    /// The sum before.
    pub fn sum(self, format: Format, range: [i32; 2], dice: &mut Dice) -> u32 {
        match self {
            Pattern::Close | Pattern::Tiny => 0,
            Pattern::Cancel | Pattern::Sparse | Pattern::Small if dice.one_in(3) => 0,
            Pattern::Special if dice.one_in(5) => format.special(dice),
            _ => format.draw(dice, range),
        }
    }
}
