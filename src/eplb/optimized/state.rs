//! A packing of replicas onto the GPUs of one layer (or of one node), with its loads kept up to date.

/// Relative slack below which two loads count as equal.
pub(in crate::eplb) const TOLERANCE: f64 = 1e-12;

/// The GPUs that a packing may use, all working.
#[derive(Debug, Clone)]
pub(in crate::eplb) struct Pool {
    /// Slots of each GPU.
    pub slots: Vec<usize>,
    /// Relative speed of each GPU.
    pub speeds: Vec<f64>,
    /// Whether two replicas of an expert may share a GPU.
    pub allow_duplicates: bool,
    /// Node of each expert and of each GPU, where experts must not leave their node.
    pub homes: Option<Homes>,
}

/// Nodes that experts must stay on.
#[derive(Debug, Clone)]
pub(in crate::eplb) struct Homes {
    pub of_expert: Vec<usize>,
    pub of_gpu: Vec<usize>,
}

impl Pool {
    pub fn num_gpus(&self) -> usize {
        self.slots.len()
    }

    pub fn num_slots(&self) -> usize {
        self.slots.iter().sum()
    }
}

/// Which expert sits where; an expert's load is split evenly over its replicas.
#[derive(Debug, Clone)]
pub(in crate::eplb) struct State<'a> {
    pub weights: &'a [f64],
    pub pool: &'a Pool,
    /// Replicas of each expert.
    pub counts: Vec<u32>,
    /// Experts on each GPU, one entry per slot.
    pub held: Vec<Vec<u32>>,
    /// GPUs of each expert, one entry per replica.
    pub hosts: Vec<Vec<u32>>,
    /// Load of each GPU, not divided by its speed.
    pub loads: Vec<f64>,
}

impl<'a> State<'a> {
    /// An empty packing that will give each expert `counts` replicas.
    pub fn empty(weights: &'a [f64], pool: &'a Pool, counts: Vec<u32>) -> Self {
        Self {
            weights,
            pool,
            counts,
            held: pool.slots.iter().map(|&n| Vec::with_capacity(n)).collect(),
            hosts: vec![Vec::new(); weights.len()],
            loads: vec![0.0; pool.num_gpus()],
        }
    }

    /// The packing that `held` (experts on each GPU) describes.
    pub fn from_held(weights: &'a [f64], pool: &'a Pool, held: Vec<Vec<u32>>) -> Self {
        let mut state = Self::empty(weights, pool, vec![0; weights.len()]);
        for (gpu, experts) in held.iter().enumerate() {
            for &e in experts {
                state.counts[e as usize] += 1;
                state.hosts[e as usize].push(gpu as u32);
            }
        }
        state.held = held;
        for gpu in 0..state.loads.len() {
            state.reload(gpu);
        }
        state
    }

    /// Load of one replica of `expert`.
    pub fn replica_load(&self, expert: u32) -> f64 {
        self.weights[expert as usize] / f64::from(self.counts[expert as usize])
    }

    /// Load of one replica of `expert` if it had `count` of them.
    pub fn load_at(&self, expert: u32, count: u32) -> f64 {
        self.weights[expert as usize] / f64::from(count)
    }

    /// Time of one GPU: load by speed.
    pub fn time(&self, gpu: usize) -> f64 {
        self.loads[gpu] / self.pool.speeds[gpu]
    }

    /// The slowest GPU and its time; the lowest index among equals.
    pub fn slowest(&self) -> (usize, f64) {
        (0..self.loads.len())
            .map(|gpu| (gpu, self.time(gpu)))
            .fold((0, f64::NEG_INFINITY), |best, next| if next.1 > best.1 { next } else { best })
    }

    /// Slots that repeat an expert of the same GPU.
    pub fn num_duplicates(&self) -> usize {
        let repeats = |experts: &Vec<u32>| {
            let mut sorted = experts.clone();
            sorted.sort_unstable();
            sorted.dedup();
            experts.len() - sorted.len()
        };
        self.held.iter().map(repeats).sum()
    }

    /// Whether `expert` may be added to `gpu`.
    pub fn admits(&self, gpu: usize, expert: u32) -> bool {
        let at_home = |homes: &Homes| homes.of_expert[expert as usize] == homes.of_gpu[gpu];
        self.pool.homes.as_ref().is_none_or(at_home)
            && (self.pool.allow_duplicates || !self.holds(gpu, expert))
    }

    pub fn holds(&self, gpu: usize, expert: u32) -> bool {
        // The hosts of an expert are mostly fewer than the experts of a host.
        let (hosts, held) = (&self.hosts[expert as usize], &self.held[gpu]);
        if hosts.len() < held.len() {
            hosts.contains(&(gpu as u32))
        } else {
            held.contains(&expert)
        }
    }

    /// Adds a replica that `counts` already includes.
    pub fn add(&mut self, gpu: usize, expert: u32) {
        self.held[gpu].push(expert);
        self.hosts[expert as usize].push(gpu as u32);
        self.loads[gpu] += self.replica_load(expert);
    }

    /// Adds one replica more of `expert` than `counts` says.
    pub fn repeat(&mut self, gpu: usize, expert: u32) {
        self.counts[expert as usize] += 1;
        self.held[gpu].push(expert);
        self.hosts[expert as usize].push(gpu as u32);
        self.reload_hosts(expert);
    }

    /// Exchanges the experts in two slots of different GPUs.
    pub fn swap(&mut self, (gpu, slot): (usize, usize), (other, other_slot): (usize, usize)) {
        let (e, f) = (self.held[gpu][slot], self.held[other][other_slot]);
        self.held[gpu][slot] = f;
        self.held[other][other_slot] = e;
        rename(&mut self.hosts[e as usize], gpu as u32, other as u32);
        rename(&mut self.hosts[f as usize], other as u32, gpu as u32);
        self.reload(gpu);
        self.reload(other);
    }

    /// Puts `expert` where another one was: one replica more of it, one fewer of the other.
    pub fn replace(&mut self, gpu: usize, slot: usize, expert: u32) {
        let old = std::mem::replace(&mut self.held[gpu][slot], expert);
        self.counts[old as usize] -= 1;
        self.counts[expert as usize] += 1;
        let hosts = &mut self.hosts[old as usize];
        let position = hosts.iter().position(|&host| host == gpu as u32);
        hosts.swap_remove(position.expect("a held expert should list its host"));
        self.hosts[expert as usize].push(gpu as u32);
        self.reload(gpu);
        self.reload_hosts(old);
        self.reload_hosts(expert);
    }

    fn reload_hosts(&mut self, expert: u32) {
        for i in 0..self.hosts[expert as usize].len() {
            self.reload(self.hosts[expert as usize][i] as usize);
        }
    }

    /// Sums a GPU's load afresh, so that no rounding piles up.
    fn reload(&mut self, gpu: usize) {
        self.loads[gpu] = self.held[gpu].iter().map(|&e| self.replica_load(e)).sum();
    }
}

fn rename(hosts: &mut [u32], from: u32, to: u32) {
    let host = hosts.iter_mut().find(|host| **host == from);
    *host.expect("a held expert should list its host") = to;
}
