//! A search's decisions: what to ask of each shard ([`plan`]), where hits are likely ([`summary`]), how far candidates really lie
//! away ([`distance`]), and how to make one answer of many ([`merge`]). Under a filter the plan goes by what the filter lets through
//! ([`filtered`]), which a [`sample`] tells. How good answers are: recall as it was counted ([`tally`]), the ef that gives the recall
//! wanted ([`calibration`]), and whether what a profile promises is kept ([`estimate`]). For those who want to know: what else could
//! have been asked ([`alternatives`]), what looks wrong ([`warnings`]), and whether PostgreSQL did as it was meant to ([`pg_plan`]).

pub mod alternatives;
pub mod calibration;
pub mod distance;
pub mod estimate;
pub mod filtered;
pub mod merge;
pub mod pg_plan;
pub mod plan;
pub mod sample;
pub mod summary;
pub mod tally;
pub mod unseen;
pub mod warnings;
