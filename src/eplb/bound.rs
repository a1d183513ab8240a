//! A lower bound on the slowest GPU's time over all placements.

use super::Cluster;
use super::optimized::replica_counts;

/// How many thresholds of each kind are tried for a packing bound.
const NUM_THRESHOLDS: usize = 24;
/// Halvings of the interval in which the bound lies: it is within 1e-4 of the interval's length.
const NUM_HALVINGS: usize = 13;
/// Halvings of the price of a slot.
const NUM_PRICES: usize = 12;

/// What a bound needs to know of the GPUs.
#[derive(Debug, Clone)]
pub(super) struct Capacity {
    /// Slots on working GPUs together.
    pub num_slots: usize,
    /// GPUs that work.
    pub num_gpus: usize,
    /// Slots of the GPU that has fewest.
    pub fewest_slots: usize,
    /// Speeds of all working GPUs together.
    pub total_speed: f64,
    /// Speed of the fastest.
    pub top_speed: f64,
}

/// Returns a time that no placement of `weights` goes below, at most `reached`.
///
/// With `reached` the time that some placement has, `reached / lower_bound - 1` bounds its distance
/// from the optimum. The proof is in `docs/eplb.md`.
pub(super) fn lower_bound(weights: &[f64], capacity: &Capacity, reached: f64) -> f64 {
    let simple = capacity.simple_bound(weights).min(reached);
    let packing = Packing::new(weights, capacity);
    let (mut low, mut high) = (simple, reached);
    for _ in 0..NUM_HALVINGS {
        let middle = 0.5 * (low + high);
        if packing.excludes(middle * capacity.top_speed) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// One layer's weights, ready to test limits on the load of a GPU.
struct Packing<'a> {
    capacity: &'a Capacity,
    // ascending
    weights: Vec<f64>,
    // exclusive prefix sum of `weights`
    prefix: Vec<f64>,
}

/// A penalty on replicas whose sum over all replicas is at most `budget` if the limit holds.
struct Penalty<F> {
    /// Sum over experts of the cheapest way to have each, at the given price of a slot, and the
    /// slots that it takes.
    cheapest: F,
    budget: f64,
    lowest_price: f64,
    highest_price: f64,
}

impl Capacity {
    /// What the working GPUs of a cluster offer.
    pub fn of(cluster: &Cluster) -> Self {
        let usable = || cluster.usable_gpus().map(|gpu_idx| &cluster.gpus()[gpu_idx]);
        Self {
            num_slots: cluster.num_usable_slots(),
            num_gpus: usable().count(),
            fewest_slots: usable().map(|gpu| gpu.num_slots).min().unwrap_or(0),
            total_speed: usable().map(|gpu| gpu.speed).sum(),
            top_speed: usable().map(|gpu| gpu.speed).fold(0.0, f64::max),
        }
    }

    /// The mean load and the least possible largest replica, as times: both bound every placement.
    pub fn simple_bound(&self, weights: &[f64]) -> f64 {
        let mean = weights.iter().sum::<f64>() / self.total_speed;
        let counts = replica_counts(weights, self.num_slots, self.num_gpus);
        let replicas = weights.iter().zip(counts).map(|(w, count)| w / f64::from(count));
        mean.max(replicas.fold(0.0, f64::max) / self.top_speed)
    }
}

impl<'a> Packing<'a> {
    fn new(weights: &[f64], capacity: &'a Capacity) -> Self {
        let mut weights = weights.to_vec();
        weights.sort_by(f64::total_cmp);
        let mut prefix = vec![0.0];
        for w in &weights {
            prefix.push(prefix[prefix.len() - 1] + w);
        }
        Self { capacity, weights, prefix }
    }

    /// Whether no placement keeps every GPU's load at or below `limit`.
    fn excludes(&self, limit: f64) -> bool {
        let needed: f64 = self.weights.iter().map(|&w| least_count(w, limit)).sum();
        needed > self.capacity.num_slots as f64
            || self.full_gpus_exclude(limit)
            || (1..=3).any(|k| self.crowding_excludes(limit, k))
    }

    /// GPUs with a replica above half the limit hold one each, and must fill their other slots.
    fn full_gpus_exclude(&self, limit: f64) -> bool {
        let others = self.capacity.fewest_slots as f64 - 1.0;
        if others < 1.0 {
            return false;
        }
        let first_heavy = self.weights.partition_point(|&w| w <= 0.5 * limit);
        let num_heavy = self.weights.len() - first_heavy;
        let num_tried = num_heavy.min(NUM_THRESHOLDS);
        (1..=num_tried).any(|i| {
            let num_gpus = (num_heavy * i).div_ceil(num_tried);
            let light = (num_gpus * (self.capacity.fewest_slots - 1)).min(first_heavy);
            let Some(&beta) = light.checked_sub(1).and_then(|last| self.weights.get(last)) else {
                return false;
            };
            let num_light = self.weights.partition_point(|&w| w < beta);
            let penalty = Penalty {
                cheapest: |price: f64| {
                    let light = self.prefix[num_light] - beta * num_light as f64;
                    let mut cost = light + price * first_heavy as f64;
                    let mut slots = first_heavy as f64;
                    for &w in &self.weights[first_heavy..] {
                        let (own_cost, count) = cheapest_beside(w, limit, price, beta, others);
                        cost += own_cost;
                        slots += count;
                    }
                    (cost, slots)
                },
                budget: 0.0,
                lowest_price: beta,
                highest_price: limit * (others + 1.0),
            };
            penalty.exceeds_budget(self.capacity.num_slots)
        })
    }

    /// No GPU holds more than `k` replicas above `limit / (k + 1)`.
    fn crowding_excludes(&self, limit: f64, k: usize) -> bool {
        let edge = limit / (k + 1) as f64;
        let first_heavy = self.weights.partition_point(|&w| w <= edge);
        let penalty = Penalty {
            cheapest: |price: f64| {
                let mut cost = price * first_heavy as f64;
                let mut slots = first_heavy as f64;
                for &w in &self.weights[first_heavy..] {
                    let mut best = (f64::INFINITY, 0.0);
                    let mut count = least_count(w, limit);
                    loop {
                        let heavy = w > count * edge;
                        let total = price * count + if heavy { count } else { 0.0 };
                        if total < best.0 {
                            best = (total, count);
                        }
                        if !heavy {
                            break;
                        }
                        count += 1.0;
                    }
                    cost += best.0;
                    slots += best.1;
                }
                (cost, slots)
            },
            budget: (k * self.capacity.num_gpus) as f64,
            lowest_price: 0.0,
            highest_price: (k + 1) as f64,
        };
        penalty.exceeds_budget(self.capacity.num_slots)
    }
}

impl<F: Fn(f64) -> (f64, f64)> Penalty<F> {
    /// Whether at some price the cheapest choice still costs more than the budget and all slots.
    fn exceeds_budget(&self, num_slots: usize) -> bool {
        let num_slots = num_slots as f64;
        let (mut low, mut high) = (self.lowest_price, self.highest_price);
        let mut price = low;
        for _ in 0..NUM_PRICES {
            let (cost, slots) = (self.cheapest)(price);
            let excess = cost - price * num_slots - self.budget;
            if excess > 1e-9 * (cost.abs() + price * num_slots + self.budget) {
                return true;
            }
            // The excess is concave in the price, with slope `slots - num_slots`.
            if slots > num_slots {
                low = price;
            } else {
                high = price;
            }
            price = 0.5 * (low + high);
        }
        false
    }
}

/// Cheapest number of replicas for an expert above half the limit, and what it costs: a heavy replica
/// what it leaves too little room for `others` replicas of `beta`, another one what it is below `beta`.
fn cheapest_beside(w: f64, limit: f64, price: f64, beta: f64, others: f64) -> (f64, f64) {
    let mut best = (f64::INFINITY, 0.0);
    let mut count = least_count(w, limit);
    loop {
        let heavy = w > count * 0.5 * limit;
        let penalty = if heavy {
            (w - count * (limit - beta * others)).max(0.0)
        } else {
            -(count * beta - w).max(0.0)
        };
        let cost = price * count + penalty;
        if cost < best.0 {
            best = (cost, count);
        }
        if !heavy {
            return best;
        }
        count += 1.0;
    }
}

/// Fewest replicas of an expert that keep each at or below `limit`, as a float.
fn least_count(w: f64, limit: f64) -> f64 {
    (w / limit * (1.0 - 1e-12)).ceil().max(1.0)
}
