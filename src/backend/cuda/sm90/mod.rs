//! The Hopper tier: warpgroup products, for the shapes of the published models.

pub(crate) mod backward;
pub(crate) mod forward;
mod tables;

pub(crate) use tables::Tables;
