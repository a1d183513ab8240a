//! Special registers whose value does not change while a warp runs.

/// A special register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    /// Position of the thread in its block; 0 to 2 for x to z.
    Tid(u8),
    /// Extent of the block.
    Ntid(u8),
    /// Position of the block in the grid.
    Ctaid(u8),
    /// Extent of the grid.
    Nctaid(u8),
    /// Position of the block in its cluster.
    ClusterCtaid(u8),
    /// Extent of the cluster.
    ClusterNctaid(u8),
    /// Position of the cluster in the grid.
    Clusterid(u8),
    /// Clusters of the grid.
    Nclusterid(u8),
    /// Rank of the block in its cluster.
    ClusterCtarank,
    /// Blocks of the cluster.
    ClusterNctarank,
    /// The launch named a cluster.
    IsExplicitCluster,
    LaneId,
    WarpId,
    NWarpId,
    SmId,
    NSmId,
    GridId,
    LanemaskEq,
    LanemaskLt,
    LanemaskLe,
    LanemaskGt,
    LanemaskGe,
    DynamicSmemSize,
    TotalSmemSize,
    /// `%envreg0` and so on; 1 and 2 hold the workspace of cooperative grids.
    Envreg(u8),
    Zero,
}

impl Special {
    /// By name and part, without the percent sign.
    pub(crate) fn find(name: &str, part: Option<&str>) -> Option<Self> {
        if let Some(part) = part {
            let axis = ["x", "y", "z"].iter().position(|axis| *axis == part);
            let Some(axis) = axis.map(|axis| axis as u8) else {
                return (part == "w").then_some(Special::Zero);
            };
            return Some(match name {
                "tid" => Special::Tid(axis),
                "ntid" => Special::Ntid(axis),
                "ctaid" => Special::Ctaid(axis),
                "nctaid" => Special::Nctaid(axis),
                "cluster_ctaid" => Special::ClusterCtaid(axis),
                "cluster_nctaid" => Special::ClusterNctaid(axis),
                "clusterid" => Special::Clusterid(axis),
                "nclusterid" => Special::Nclusterid(axis),
                _ => return None,
            });
        }
        if let Some(number) = name.strip_prefix("envreg") {
            return number.parse().ok().filter(|n| *n < 32).map(Special::Envreg);
        }
        Some(match name {
            "laneid" => Special::LaneId,
            "warpid" => Special::WarpId,
            "nwarpid" => Special::NWarpId,
            "smid" => Special::SmId,
            "nsmid" => Special::NSmId,
            "gridid" => Special::GridId,
            "lanemask_eq" => Special::LanemaskEq,
            "lanemask_lt" => Special::LanemaskLt,
            "lanemask_le" => Special::LanemaskLe,
            "lanemask_gt" => Special::LanemaskGt,
            "lanemask_ge" => Special::LanemaskGe,
            "cluster_ctarank" => Special::ClusterCtarank,
            "cluster_nctarank" => Special::ClusterNctarank,
            "dynamic_smem_size" => Special::DynamicSmemSize,
            "total_smem_size" => Special::TotalSmemSize,
            "is_explicit_cluster" => Special::IsExplicitCluster,
            _ => return None,
        })
    }

    /// The register is a predicate.
    pub(crate) fn is_predicate(self) -> bool {
        self == Special::IsExplicitCluster
    }
}
