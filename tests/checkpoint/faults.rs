//! Whatever is wrong with a tensor that a rank needs, the error names the tensor and the file.

use std::fs;
use std::path::Path;

use moekit::checkpoint::Checkpoint;
use moekit::{Cpu, Error};

use crate::store::{Format, Store, Stored, file, shard_name, write_index};

/// Experts that the rank of these tests holds.
const EXPERTS: [i32; 2] = [1, 4];

fn load(dir: &Path) -> Result<(), Error> {
    Checkpoint::open(dir)?.load_moe_layer(&Cpu::new(), 0, &EXPERTS).map(drop)
}

/// Tensors that the rank needs, and those that it does not.
fn split_by_need(store: &Store) -> (Vec<&str>, Vec<&str>) {
    store.tensors.keys().map(String::as_str).partition(|name| {
        !name.contains(".experts.") || name.contains(".experts.1.") || name.contains(".experts.4.")
    })
}

/// Spoils every tensor in turn; the needed ones must be named, the others must not matter.
fn assert_named(format: Format, problem: &str, spoil: impl Fn(&Path, &str, &Stored)) {
    let store = Store::new(format, 128);
    let (needed, others) = split_by_need(&store);
    assert_eq!(needed.len(), if format == Format::Fp8 { 2 + 3 * 6 } else { 2 + 3 * 3 });
    let dir = store.write_sharded();
    let path = |name: &str| dir.path().join(shard_name(name));
    for name in needed {
        let whole = fs::read(path(name)).expect("a file");
        spoil(dir.path(), name, &store.tensors[name]);
        let error = load(dir.path()).expect_err(name);
        let text = error.to_string();
        let Error::Checkpoint { tensor, .. } = error else { panic!("{name}: {text}") };
        assert_eq!(tensor, name, "{text}");
        assert!(text.contains(problem), "{text}");
        fs::write(path(name), whole).expect("written");
        write_index(dir.path(), store.tensors.keys().map(String::as_str));
    }
    for name in others {
        spoil(dir.path(), name, &store.tensors[name]);
    }
    write_index(dir.path(), store.tensors.keys().map(String::as_str));
    load(dir.path()).expect("no tensor that is needed was spoilt");
}

#[test]
fn a_tensor_that_the_index_lacks_is_named() {
    let names: Vec<String> = Store::new(Format::Fp8, 128).tensors.keys().cloned().collect();
    assert_named(Format::Fp8, "missing", |dir, spoilt, _| {
        write_index(dir, names.iter().map(String::as_str).filter(|name| *name != spoilt));
    });
}

#[test]
fn a_file_that_is_not_there_is_named_with_its_tensor() {
    assert_named(Format::Bf16, "not there", |dir, name, _| {
        fs::remove_file(dir.join(shard_name(name))).expect("removed");
    });
}

#[test]
fn a_tensor_that_its_file_lacks_is_named() {
    assert_named(Format::Fp8, "missing, although the index lists it", |dir, name, tensor| {
        fs::write(dir.join(shard_name(name)), file([("another", tensor)])).expect("written");
    });
}

#[test]
fn a_truncated_tensor_is_named() {
    assert_named(Format::Fp8, "truncated: its data end at byte", |dir, name, _| {
        let path = dir.join(shard_name(name));
        let bytes = fs::read(&path).expect("a file");
        fs::write(&path, &bytes[..bytes.len() - 1]).expect("written");
    });
}

#[test]
fn a_tensor_of_another_dtype_is_named() {
    for format in [Format::Fp8, Format::Bf16] {
        assert_named(format, "dtype", |dir, name, tensor| {
            // As many bytes, so that nothing else is wrong.
            let dtype = match tensor.dtype {
                "F8_E4M3" => "F8_E5M2",
                "BF16" => "F16",
                _ => "I32",
            };
            let other = Stored { dtype, ..tensor.clone() };
            fs::write(dir.join(shard_name(name)), file([(name, &other)])).expect("written");
        });
    }
}

#[test]
fn experts_of_two_number_formats_are_refused() {
    let mut store = Store::new(Format::Fp8, 128);
    let name = "model.layers.0.mlp.experts.4.up_proj.weight";
    let bf16 = Store::new(Format::Bf16, 128).tensors.remove(name).expect("a matrix");
    store.tensors.insert(name.to_owned(), bf16);
    let error = load(store.write_single().path()).expect_err("BF16 among FP8").to_string();
    assert!(error.contains(name) && error.contains("BF16, expected F8_E4M3"), "{error}");
}

#[test]
fn a_tensor_of_another_shape_is_named() {
    for format in [Format::Fp8, Format::Bf16] {
        assert_named(format, "shape", |dir, name, tensor| {
            let mut shape = tensor.shape.clone();
            shape.push(1);
            let other = Stored { shape, ..tensor.clone() };
            fs::write(dir.join(shard_name(name)), file([(name, &other)])).expect("written");
        });
        assert_named(format, "shape", |dir, name, tensor| {
            let mut other = tensor.clone();
            let row = other.bytes.len() / other.shape[0];
            other.shape[0] += 1;
            other.bytes.extend(vec![1; row]);
            fs::write(dir.join(shard_name(name)), file([(name, &other)])).expect("written");
        });
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_open_is_no_crash() {
    let store = Store::new(Format::Fp8, 128);
    let dir = store.write_single();
    let checkpoint = Checkpoint::open(dir.path()).expect("a checkpoint");
    let path = dir.path().join("model.safetensors");
    let file = fs::File::options().write(true).open(path).expect("a file");
    file.set_len(5000).expect("shorter");
    let error = checkpoint.load_moe_layer(&Cpu::new(), 0, &EXPERTS).expect_err("shorter");
    assert!(error.to_string().contains("truncated since"), "{error}");
}

#[test]
fn a_layer_or_an_expert_that_is_not_there_is_named() {
    let dir = Store::new(Format::Bf16, 128).write_single();
    let checkpoint = Checkpoint::open(dir.path()).expect("a checkpoint");
    let error = checkpoint.load_moe_layer(&Cpu::new(), 1, &[0]).expect_err("layer 1").to_string();
    assert_eq!(error, "checkpoint: `layer` is 1, expected a layer with experts: 0 to 0");
    for expert in [-2, 6, i32::MIN, i32::MAX] {
        let error = checkpoint.load_moe_layer(&Cpu::new(), 0, &[0, expert]).expect_err("no expert");
        assert!(error.to_string().contains(&format!("{expert} at position 1")), "{error}");
    }
}
