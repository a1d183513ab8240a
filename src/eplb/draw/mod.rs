//! Pictures of the load of every GPU: SVG heat maps and terminal bars.

mod heat_map;
mod text;

pub use heat_map::{HeatMap, heat_maps_svg, simulation_svg};
pub use text::{load_bar, load_bar_colored};
