//! Maximum flow on a small bipartite network with real capacities.

/// Relative flow below which an edge counts as full.
const EPSILON: f64 = 1e-12;

/// Depth of what no path leads to; one more must not overflow.
const UNREACHED: usize = usize::MAX - 1;

/// Experts on the left, GPUs on the right; edges between them are unbounded.
pub(super) struct Flow<'a> {
    // GPUs of each expert
    edges: &'a [Vec<usize>],
    epsilon: f64,
    /// Flow from each expert to each of its GPUs.
    pub flow: Vec<Vec<f64>>,
    left_over: Vec<f64>,
    room: Vec<f64>,
    // experts with an edge to each GPU, and the edge's place in the expert's list
    back: Vec<Vec<(usize, usize)>>,
}

/// The side of the sources in a minimum cut.
pub(super) struct Cut {
    /// Experts that cannot send all of their load.
    pub experts: Vec<bool>,
    /// GPUs that they reach: all of them are full.
    pub gpus: Vec<bool>,
}

impl<'a> Flow<'a> {
    /// Sends as much of `supply` along `edges` as `demand` takes in.
    pub fn maximum(edges: &'a [Vec<usize>], supply: &[f64], demand: &[f64]) -> Self {
        let mut back = vec![Vec::new(); demand.len()];
        for (expert, gpus) in edges.iter().enumerate() {
            for (i, &gpu) in gpus.iter().enumerate() {
                back[gpu].push((expert, i));
            }
        }
        let mut flow = Self {
            edges,
            epsilon: EPSILON * supply.iter().sum::<f64>(),
            flow: edges.iter().map(|gpus| vec![0.0; gpus.len()]).collect(),
            left_over: supply.to_vec(),
            room: demand.to_vec(),
            back,
        };
        while flow.augment() {}
        flow
    }

    /// Whether everything could be sent, but for rounding.
    pub fn is_complete(&self) -> bool {
        self.left_over.iter().all(|&rest| rest <= self.epsilon)
    }

    /// Sends along shortest paths until those of the current length are used up; false if none is.
    fn augment(&mut self) -> bool {
        let mut depth = self.depths();
        let mut sent_any = false;
        for expert in 0..self.edges.len() {
            while self.left_over[expert] > self.epsilon {
                let sent = self.send(expert, self.left_over[expert], &mut depth);
                if sent <= 0.0 {
                    break;
                }
                self.left_over[expert] -= sent;
                sent_any = true;
            }
        }
        sent_any
    }

    /// Sends up to `amount` from an expert to a GPU with room, along ascending depth.
    fn send(&mut self, expert: usize, amount: f64, depth: &mut Depths) -> f64 {
        for i in 0..self.edges[expert].len() {
            let gpu = self.edges[expert][i];
            if depth.gpus[gpu] != depth.experts[expert] + 1 {
                continue;
            }
            let direct = amount.min(self.room[gpu]);
            if direct > self.epsilon {
                self.room[gpu] -= direct;
                self.flow[expert][i] += direct;
                return direct;
            }
            for j in 0..self.back[gpu].len() {
                let (other, edge) = self.back[gpu][j];
                let returned = amount.min(self.flow[other][edge]);
                if depth.experts[other] != depth.gpus[gpu] + 1 || returned <= self.epsilon {
                    continue;
                }
                let sent = self.send(other, returned, depth);
                if sent > 0.0 {
                    self.flow[other][edge] -= sent;
                    self.flow[expert][i] += sent;
                    return sent;
                }
            }
        }
        // A dead end stays one until the depths change.
        depth.experts[expert] = UNREACHED;
        0.0
    }

    /// Breadth-first distances from the experts that have load left.
    fn depths(&self) -> Depths {
        let mut depth = Depths {
            experts: vec![UNREACHED; self.edges.len()],
            gpus: vec![UNREACHED; self.room.len()],
        };
        let mut queue: Vec<usize> =
            (0..self.edges.len()).filter(|&expert| self.left_over[expert] > self.epsilon).collect();
        queue.iter().for_each(|&expert| depth.experts[expert] = 0);
        let mut next = 0;
        while next < queue.len() {
            let expert = queue[next];
            next += 1;
            for &gpu in &self.edges[expert] {
                if depth.gpus[gpu] != UNREACHED {
                    continue;
                }
                depth.gpus[gpu] = depth.experts[expert] + 1;
                for &(other, edge) in &self.back[gpu] {
                    if depth.experts[other] == UNREACHED && self.flow[other][edge] > self.epsilon {
                        depth.experts[other] = depth.gpus[gpu] + 1;
                        queue.push(other);
                    }
                }
            }
        }
        depth
    }

    /// Returns the minimum cut.
    pub fn cut(&self) -> Cut {
        let depth = self.depths();
        let reached = |depth: &[usize]| depth.iter().map(|&d| d != UNREACHED).collect();
        Cut { experts: reached(&depth.experts), gpus: reached(&depth.gpus) }
    }
}

struct Depths {
    experts: Vec<usize>,
    gpus: Vec<usize>,
}
