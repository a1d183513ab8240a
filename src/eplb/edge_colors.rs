//! Colours for the edges of a bipartite multigraph, none twice at a vertex.

const FREE: usize = usize::MAX;

/// Returns a colour for each `(left, right)` edge, as few as the largest degree.
///
/// # Source
///
/// Kőnig's theorem, by its proof: where the two ends have no free colour in common, the colours of
/// an alternating path are exchanged.
pub(super) fn edge_colors(edges: &[(usize, usize)]) -> Vec<usize> {
    let num_left = edges.iter().map(|edge| edge.0 + 1).max().unwrap_or(0);
    let num_right = edges.iter().map(|edge| edge.1 + 1).max().unwrap_or(0);
    // Right vertices follow the left ones.
    let ends = |edge: usize| [edges[edge].0, num_left + edges[edge].1];
    let mut degrees = vec![0usize; num_left + num_right];
    (0..edges.len()).for_each(|edge| ends(edge).iter().for_each(|&end| degrees[end] += 1));

    // [vertex][colour] -> edge; a vertex never needs more colours than the largest degree
    let num_colors = degrees.iter().copied().max().unwrap_or(0);
    let mut edge_at = vec![vec![]; num_left + num_right];
    edge_at.iter_mut().for_each(|of: &mut Vec<usize>| of.resize(num_colors, FREE));
    let mut colors = vec![0; edges.len()];
    for edge in 0..edges.len() {
        let [left, right] = ends(edge);
        let free_at = |vertex: usize| edge_at[vertex].iter().position(|&other| other == FREE);
        let a = free_at(left).expect("a vertex with an uncoloured edge should have a free colour");
        let b = free_at(right).expect("a vertex with an uncoloured edge should have a free colour");
        if edge_at[right][a] != FREE {
            swap_along_path(&mut edge_at, &mut colors, &ends, right, [a, b]);
        }
        edge_at[left][a] = edge;
        edge_at[right][a] = edge;
        colors[edge] = a;
    }
    colors
}

/// Exchanges the colours `a` and `b` on the path of such edges that starts at `vertex` with `a`.
fn swap_along_path(
    edge_at: &mut [Vec<usize>],
    colors: &mut [usize],
    ends: &impl Fn(usize) -> [usize; 2],
    vertex: usize,
    [a, b]: [usize; 2],
) {
    let mut path = Vec::new();
    let (mut at, mut color) = (vertex, a);
    while edge_at[at][color] != FREE {
        let edge = edge_at[at][color];
        path.push(edge);
        let [left, right] = ends(edge);
        at = if at == left { right } else { left };
        color = if color == a { b } else { a };
    }
    for &edge in &path {
        ends(edge).iter().for_each(|&end| edge_at[end][colors[edge]] = FREE);
    }
    for &edge in &path {
        colors[edge] = if colors[edge] == a { b } else { a };
        ends(edge).iter().for_each(|&end| edge_at[end][colors[edge]] = edge);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_never_meet_and_are_as_few_as_the_largest_degree() {
        let mut state = 1u64;
        let mut random = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % below
        };
        for num_edges in [0, 1, 7, 60, 400] {
            let edges: Vec<_> = (0..num_edges).map(|_| (random(9), random(13))).collect();
            let colors = edge_colors(&edges);
            let mut seen = std::collections::HashSet::new();
            let mut degrees = std::collections::HashMap::new();
            for (&(left, right), &color) in edges.iter().zip(&colors) {
                assert!(seen.insert((0, left, color)), "left {left} sends twice in {color}");
                assert!(seen.insert((1, right, color)), "right {right} receives twice in {color}");
                *degrees.entry((0, left)).or_insert(0) += 1;
                *degrees.entry((1, right)).or_insert(0) += 1;
            }
            let num_colors = colors.iter().map(|color| color + 1).max().unwrap_or(0);
            assert_eq!(num_colors, degrees.values().copied().max().unwrap_or(0));
        }
    }
}
