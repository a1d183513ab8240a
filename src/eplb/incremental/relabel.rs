//! Keeping what is already in place.

use crate::eplb::{Cluster, Gpu};

/// Counts the experts that GPUs hold in `next` and not in `held`: the transfers between the two.
pub(super) fn num_new(held: &[Vec<u32>], next: &[Vec<u32>]) -> usize {
    held.iter().zip(next).map(|(old, new)| new_experts(old, new).count()).sum()
}

/// Lists each expert once that is in `new` and not in `old`.
fn new_experts<'a>(old: &'a [u32], new: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
    let first = |(i, e): &(usize, &u32)| !new[..*i].contains(e) && !old.contains(e);
    new.iter().enumerate().filter(first).map(|(_, &e)| e)
}

/// Hands the contents of `fresh` to the GPUs that hold most of them already, among equal GPUs.
pub(super) fn relabel(
    cluster: &Cluster,
    held: &[Vec<u32>],
    fresh: Vec<Vec<u32>>,
    within_nodes: bool,
) -> Vec<Vec<u32>> {
    let gpus = cluster.gpus();
    let alike = |a: &Gpu, b: &Gpu| {
        (a.num_slots, a.speed, a.failed) == (b.num_slots, b.speed, b.failed)
            && (!within_nodes || a.node_idx == b.node_idx)
    };
    let mut pairs = Vec::new();
    for (from, contents) in fresh.iter().enumerate() {
        for (to, old) in held.iter().enumerate() {
            let shared = contents.iter().filter(|e| old.contains(e)).count();
            if shared > 0 && alike(&gpus[from], &gpus[to]) {
                pairs.push((shared, from, to));
            }
        }
    }
    pairs.sort_by_key(|&(shared, from, to)| (std::cmp::Reverse(shared), from, to));
    let mut source = vec![None; fresh.len()];
    let mut taken = vec![false; fresh.len()];
    for (_, from, to) in pairs {
        if source[to].is_none() && !taken[from] {
            source[to] = Some(from);
            taken[from] = true;
        }
    }
    for to in 0..fresh.len() {
        if source[to].is_none() {
            let from = (0..fresh.len()).find(|&from| !taken[from] && alike(&gpus[from], &gpus[to]));
            let from = from.expect("equal GPUs should pair up one to one");
            source[to] = Some(from);
            taken[from] = true;
        }
    }
    source.into_iter().flatten().map(|from| fresh[from].clone()).collect()
}

/// Lays out the experts of each GPU, those that were there before in the slots that they had.
pub(super) fn keep_slots(cluster: &Cluster, current: &[i32], held: &[Vec<u32>]) -> Vec<i32> {
    let mut row = vec![-1; cluster.num_physical_experts()];
    for (gpu, experts) in held.iter().enumerate() {
        let slots = cluster.slots_of(gpu);
        let mut arriving = experts.clone();
        for slot in slots.clone() {
            let kept = arriving.iter().position(|&e| e as i32 == current[slot]);
            if let Some(position) = kept {
                row[slot] = arriving.remove(position) as i32;
            }
        }
        arriving.sort_unstable();
        let free = slots.filter(|&slot| row[slot] < 0).collect::<Vec<_>>();
        free.iter().zip(arriving).for_each(|(&slot, e)| row[slot] = e as i32);
    }
    row
}
