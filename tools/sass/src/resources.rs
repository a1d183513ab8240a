//! What kernels take: the listing of `cuobjdump --dump-resource-usage`.

/// Shared memory that the system keeps of every CTA on SM 9.0, in bytes.
const SYSTEM_SHARED_BYTES: usize = 1024;

/// What one kernel takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// Its name.
    pub kernel: String,
    /// Registers of a thread.
    pub num_registers: usize,
    /// Stack of a thread, in bytes.
    pub stack_bytes: usize,
    /// Local memory of a thread, in bytes.
    pub local_bytes: usize,
    /// Static shared memory of a CTA, in bytes, less what the system keeps.
    pub shared_bytes: usize,
}

/// Reads the listing; kernels in the order in which they stand there.
///
/// # Errors
///
/// The first line that lacks a number.
pub fn parse_resources(text: &str) -> Result<Vec<Resources>, String> {
    let mut kernels = Vec::new();
    let mut kernel = None;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("Function ") {
            kernel = Some(name.trim_end_matches(':').to_owned());
        } else if let Some(kernel) = kernel.take() {
            let number = |name: &str| {
                let field = line.split_whitespace().find_map(|word| word.strip_prefix(name));
                let number = field.and_then(|it| it.parse::<usize>().ok());
                number.ok_or(format!("no {name} of `{kernel}`: {line}"))
            };
            let shared = number("SHARED:")?;
            kernels.push(Resources {
                num_registers: number("REG:")?,
                stack_bytes: number("STACK:")?,
                local_bytes: number("LOCAL:")?,
                shared_bytes: shared.saturating_sub(SYSTEM_SHARED_BYTES),
                kernel,
            });
        }
    }
    Ok(kernels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kernel_has_its_line() {
        let text = "Resource usage:\n Common:\n  GLOBAL:0\n Function gate:\n  \
            REG:40 STACK:8 SHARED:6304 LOCAL:4 CONSTANT[0]:632 TEXTURE:0\n";
        let kernels = parse_resources(text).expect("a listing");
        let gate = Resources {
            kernel: "gate".to_owned(),
            num_registers: 40,
            stack_bytes: 8,
            local_bytes: 4,
            shared_bytes: 5280,
        };
        assert_eq!(kernels, [gate]);
        assert!(parse_resources(" Function gate:\n  REG:x\n").is_err());
    }
}
