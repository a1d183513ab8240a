//! C's `printf` conversions.

/// Where the arguments come from.
pub(crate) trait Arguments {
    /// Why an argument could not be read.
    type Error;

    /// The next argument, of 4 or 8 bytes.
    fn word(&mut self, bytes: u64) -> Result<u64, Self::Error>;

    /// The string at an address.
    fn text(&mut self, address: u64) -> Result<String, Self::Error>;
}

#[derive(Default)]
struct Spec {
    left: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
    wide: bool,
    /// Bits that a length modifier cuts an integer to.
    bits: u32,
}

/// Formats `text` with the arguments. A conversion that C does not have is kept as it stands.
pub(crate) fn format<A: Arguments>(text: &str, arguments: &mut A) -> Result<String, A::Error> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        let (spec, length) = parse(tail, arguments)?;
        let Some(conversion) = tail[length..].chars().next() else {
            out.push_str(&rest[at..]);
            return Ok(out);
        };
        let end = length + conversion.len_utf8();
        match convert(&spec, conversion, arguments)? {
            Some(piece) => out.push_str(&piece),
            None => out.push_str(&rest[at..at + 1 + end]),
        }
        rest = &tail[end..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Flags, width, precision and length before the conversion, and how many bytes they are.
fn parse<A: Arguments>(text: &str, arguments: &mut A) -> Result<(Spec, usize), A::Error> {
    let mut spec = Spec { bits: 32, ..Spec::default() };
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(flag) = bytes.get(at) {
        match flag {
            b'-' => spec.left = true,
            b'+' => spec.plus = true,
            b' ' => spec.space = true,
            b'#' => spec.alternate = true,
            b'0' => spec.zero = true,
            _ => break,
        }
        at += 1;
    }
    let width = number(bytes, &mut at, arguments)?;
    if let Some(width) = width {
        spec.left |= width < 0;
        spec.width = width.unsigned_abs().min(1024) as usize;
    }
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        let precision = number(bytes, &mut at, arguments)?.unwrap_or(0);
        spec.precision = usize::try_from(precision).ok().map(|p| p.min(1024));
    }
    while let Some(modifier) = bytes.get(at) {
        match modifier {
            b'l' | b'j' | b'z' | b't' => (spec.wide, spec.bits) = (true, 64),
            b'h' => spec.bits = if spec.bits == 16 { 8 } else { 16 },
            _ => break,
        }
        at += 1;
    }
    Ok((spec, at))
}

/// Digits, or `*` for an argument.
fn number<A: Arguments>(
    bytes: &[u8],
    at: &mut usize,
    arguments: &mut A,
) -> Result<Option<i32>, A::Error> {
    if bytes.get(*at) == Some(&b'*') {
        *at += 1;
        return Ok(Some(arguments.word(4)? as i32));
    }
    let mut value = None;
    while let Some(digit) = bytes.get(*at).filter(|byte| byte.is_ascii_digit()) {
        let digit = i32::from(digit - b'0');
        value = Some(value.unwrap_or(0i32).saturating_mul(10).saturating_add(digit));
        *at += 1;
    }
    Ok(value)
}

fn convert<A: Arguments>(
    spec: &Spec,
    conversion: char,
    arguments: &mut A,
) -> Result<Option<String>, A::Error> {
    let mut integer = || arguments.word(if spec.wide { 8 } else { 4 });
    let piece = match conversion {
        '%' => return Ok(Some("%".to_owned())),
        'd' | 'i' => {
            let shift = 64 - spec.bits;
            let value = (integer()? << shift) as i64 >> shift;
            digits(spec, value < 0, &value.unsigned_abs().to_string(), "")
        }
        'u' | 'x' | 'X' | 'o' => {
            let value = integer()? & u64::MAX >> (64 - spec.bits);
            let (text, prefix) = match conversion {
                'x' => (format!("{value:x}"), "0x"),
                'X' => (format!("{value:X}"), "0X"),
                'o' => (format!("{value:o}"), "0"),
                _ => (value.to_string(), ""),
            };
            let prefix = if spec.alternate && value != 0 { prefix } else { "" };
            let unsigned = Spec { plus: false, space: false, ..*spec };
            digits(&unsigned, false, &text, prefix)
        }
        'c' => pad(spec, &char::from(arguments.word(4)? as u8).to_string()),
        'p' => pad(spec, &format!("{:#x}", arguments.word(8)?)),
        's' => {
            let address = arguments.word(8)?;
            let text = arguments.text(address)?;
            let cut: String = text.chars().take(spec.precision.unwrap_or(usize::MAX)).collect();
            pad(spec, &cut)
        }
        'f' | 'F' | 'e' | 'E' | 'g' | 'G' | 'a' | 'A' => {
            float(spec, conversion, f64::from_bits(arguments.word(8)?))
        }
        _ => return Ok(None),
    };
    Ok(Some(piece))
}

/// Sign, prefix and zeros around digits.
fn digits(spec: &Spec, negative: bool, digits: &str, prefix: &str) -> String {
    let sign = match (negative, spec.plus, spec.space) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    };
    let mut wanted = spec.precision.unwrap_or(1);
    if spec.zero && !spec.left && spec.precision.is_none() {
        wanted = spec.width.saturating_sub(sign.len() + prefix.len());
    }
    let zeros = "0".repeat(wanted.saturating_sub(digits.len()));
    pad(spec, &format!("{sign}{prefix}{zeros}{digits}"))
}

fn pad(spec: &Spec, text: &str) -> String {
    let width = spec.width;
    if spec.left { format!("{text:<width$}") } else { format!("{text:>width$}") }
}

fn float(spec: &Spec, conversion: char, value: f64) -> String {
    let magnitude = value.abs();
    let precision = spec.precision.unwrap_or(6);
    let mut text = match conversion.to_ascii_lowercase() {
        _ if value.is_nan() => "nan".to_owned(),
        _ if value.is_infinite() => "inf".to_owned(),
        'f' => format!("{magnitude:.precision$}"),
        'e' => exponent(magnitude, precision),
        'g' => general(magnitude, precision.max(1), spec.alternate),
        _ => hexadecimal(magnitude),
    };
    if conversion.is_ascii_uppercase() {
        text.make_ascii_uppercase();
    }
    let finite = Spec { precision: None, zero: spec.zero && value.is_finite(), ..*spec };
    digits(&finite, value.is_sign_negative(), &text, "")
}

/// `d.ddde+dd`.
fn exponent(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// The shorter of the two, without trailing zeros.
fn general(value: f64, precision: usize, keep_zeros: bool) -> String {
    let scientific = exponent(value, precision - 1);
    let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') && !keep_zeros {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if power < -4 || power >= precision as i32 {
        let sign = if power < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), power.abs());
    }
    let decimals = (precision as i32 - 1 - power).max(0) as usize;
    trim(&format!("{value:.decimals$}"))
}

/// `0x1.8p+1`.
fn hexadecimal(value: f64) -> String {
    if value == 0.0 {
        return "0x0p+0".to_owned();
    }
    let bits = value.to_bits();
    let (field, mantissa) = ((bits >> 52) as i32, bits & ((1 << 52) - 1));
    let (lead, power) = if field == 0 { (0, -1022) } else { (1, field - 1023) };
    let digits = format!("{mantissa:013x}");
    let digits = digits.trim_end_matches('0');
    let point = if digits.is_empty() { "" } else { "." };
    format!("0x{lead}{point}{digits}p{power:+}")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Words(Vec<u64>);

    impl Arguments for Words {
        type Error = std::convert::Infallible;

        fn word(&mut self, _bytes: u64) -> Result<u64, Self::Error> {
            Ok(self.0.remove(0))
        }

        fn text(&mut self, _address: u64) -> Result<String, Self::Error> {
            Ok("text".to_owned())
        }
    }

    /// Expectations from C's printf.
    #[test]
    fn conversions_are_those_of_c() {
        let float = |x: f64| x.to_bits();
        let cases: [(&str, Vec<u64>, &str); 22] = [
            ("%d|%5d|%-5d|%05d", vec![7, 42, 42, 42], "7|   42|42   |00042"),
            ("%d", vec![0xffff_fffe], "-2"),
            ("%ld %llu", vec![u64::MAX, u64::MAX], "-1 18446744073709551615"),
            ("%u %x %X %o", vec![9, 255, 255, 8], "9 ff FF 10"),
            ("%#x %#o %+d % d", vec![255, 8, 3, 3], "0xff 010 +3  3"),
            ("%hhd %hu", vec![0x1ff, 0x1_0002], "-1 2"),
            ("%.3d|%8.3d", vec![5, 5], "005|     005"),
            ("%*d|%-*d|", vec![4, 1, 3, 2], "   1|2  |"),
            ("%c%c", vec![72, 105], "Hi"),
            ("%s|%6s|%.2s", vec![0, 0, 0], "text|  text|te"),
            ("%p", vec![0x1234], "0x1234"),
            (
                "%f %.2f %8.3f",
                vec![float(1.5), float(-0.125), float(2.0)],
                "1.500000 -0.12    2.000",
            ),
            ("%e %.1E", vec![float(12345.678), float(0.00012)], "1.234568e+04 1.2E-04"),
            ("%g %g %g", vec![float(100000.0), float(1e6), float(0.0001)], "100000 1e+06 0.0001"),
            ("%g %g", vec![float(1e-5), float(0.5)], "1e-05 0.5"),
            ("%.3g", vec![float(1234.5)], "1.23e+03"),
            ("%a", vec![float(3.0)], "0x1.8p+1"),
            ("%08.2f|%+.1f", vec![float(-1.5), float(2.0)], "-0001.50|+2.0"),
            ("%f %F", vec![float(f64::INFINITY), float(f64::NAN)], "inf NAN"),
            ("100%% %q", vec![], "100% %q"),
            ("no conversion", vec![], "no conversion"),
            ("ends with %", vec![], "ends with %"),
        ];
        for (text, words, expected) in cases {
            let got = format(text, &mut Words(words)).unwrap();
            assert_eq!(got, expected, "{text}");
        }
    }
}
