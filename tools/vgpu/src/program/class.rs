//! Classes of instructions, by their text.

/// The class of an opcode with its modifiers, `ld.global.v4.f32`.
pub(crate) fn class_of(opcode: &str) -> &'static str {
    let mut parts = opcode.split('.');
    let base = parts.next().unwrap_or("");
    match base {
        "ld" | "ldu" | "ldmatrix" => "load",
        "st" if opcode.starts_with("st.async") => "copy",
        "st" | "stmatrix" => "store",
        "red" if opcode.starts_with("red.async") => "copy",
        "atom" | "red" | "multimem" => "atomic",
        "cp" | "tensormap" => "copy",
        "wgmma" | "mma" => "matrix",
        "shfl" | "vote" | "match" | "redux" | "elect" | "activemask" => "warp",
        "bar" | "barrier" => "barrier",
        "mbarrier" => "mbarrier",
        "fence" | "membar" | "griddepcontrol" => "fence",
        "prefetch" | "prefetchu" | "applypriority" | "discard" | "createpolicy" => "hint",
        "cvt" => "convert",
        "mov" | "selp" | "cvta" | "mapa" | "isspacep" | "getctarank" => "move",
        "setp" | "set" | "slct" | "testp" => "compare",
        "ex2" | "lg2" | "rcp" | "rsqrt" | "sqrt" | "sin" | "cos" | "tanh" => "special",
        "bra" | "exit" | "ret" | "call" | "trap" | "brkpt" | "nanosleep" | "setmaxnreg" => {
            "control"
        }
        _ => match parts.next_back().unwrap_or("") {
            "f16" | "f16x2" | "bf16" | "bf16x2" | "f32" | "f32x2" | "f64" => "float",
            _ => "integer",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_opcode_tells_the_class() {
        let pairs = [
            ("ld.global.v4.f32", "load"),
            ("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.s64", "copy"),
            ("st.shared.u32", "store"),
            ("add.s32", "integer"),
            ("fma.rn.f32", "float"),
            ("lop3.b32", "integer"),
            ("mbarrier.try_wait.parity.shared::cta.b64", "mbarrier"),
            ("bar.sync", "barrier"),
            ("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16", "matrix"),
            ("ret", "control"),
        ];
        for (opcode, class) in pairs {
            assert_eq!(class_of(opcode), class, "{opcode}");
        }
    }
}
