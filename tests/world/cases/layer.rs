//! The MoE layer over processes: the same bits as on one rank.

use moekit::comm::World;
use moekit::moe::RecvLayout;
use moekit::num::bf16;
use moekit::{Cpu, Result};
use moekit_testkit::compare;

use super::Case;
use crate::moe_model::{Format, HIDDEN, NUM_TOKENS, Run};

pub const CASES: &[Case] = &[
    ("fp8_layer_has_the_bits_of_one_rank", fp8_layer),
    ("bf16_layer_has_the_bits_of_one_rank", bf16_layer),
    ("masked_layer_has_the_bits_of_one_rank", masked_layer),
];

fn fp8_layer(world: &World) -> Result<()> {
    same_bits(world, Run::new(world.num_ranks()))
}

fn bf16_layer(world: &World) -> Result<()> {
    same_bits(world, Run { format: Format::Bf16, ..Run::new(world.num_ranks()) })
}

fn masked_layer(world: &World) -> Result<()> {
    let layout = RecvLayout::Masked { max_m: None };
    same_bits(world, Run { layout, ..Run::new(world.num_ranks()) })
}

fn same_bits(world: &World, run: Run) -> Result<()> {
    let cpu = Cpu::new();
    let own = run.rank(&cpu, world)?;
    let all = world.all_gather("test", bytemuck::cast_slice(&own))?.concat();
    let alone = World::threads(1)?.remove(0);
    let want = Run { format: run.format, ..Run::new(1) }.rank(&cpu, &alone)?;
    alone.close()?;
    let got: Vec<bf16> = bytemuck::allocation::pod_collect_to_vec(&all);
    compare::assert_bits_eq("layer", &[NUM_TOKENS, HIDDEN], &got, &want);
    Ok(())
}
