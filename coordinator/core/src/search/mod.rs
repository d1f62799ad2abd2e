//! A search's decisions: what to ask of each shard ([`plan`]), how far candidates really lie away ([`distance`]), and how to make
//! one answer of many ([`merge`]). Under a filter the plan goes by what the filter lets through ([`filtered`]), which a [`sample`] tells.

pub mod distance;
pub mod filtered;
pub mod merge;
pub mod plan;
pub mod sample;
