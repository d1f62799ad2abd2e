//! A search's decisions: what to ask of each shard ([`plan`]), how far candidates really lie away ([`distance`]), and how to make
//! one answer of many ([`merge`]). And how good answers are: recall as it was counted ([`tally`]), the ef that gives the recall wanted
//! ([`calibration`]), and whether what a profile promises is kept ([`estimate`]).

pub mod calibration;
pub mod distance;
pub mod estimate;
pub mod merge;
pub mod plan;
pub mod tally;
