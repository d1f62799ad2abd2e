//! A search's decisions: what to ask of each shard ([`plan`]), where hits are likely ([`summary`]), how far candidates really lie
//! away ([`distance`]), and how to make one answer of many ([`merge`]).

pub mod distance;
pub mod merge;
pub mod plan;
pub mod summary;
