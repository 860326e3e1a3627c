//! The Hopper tier: warpgroup products, for the shapes of the published models.

pub(crate) mod backward;
mod tables;

pub(crate) use tables::Tables;
