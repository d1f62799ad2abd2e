//! A search's decisions: what to ask of each shard ([`plan`]), how far candidates really lie away ([`distance`]), and how to make
//! one answer of many ([`merge`]). For those who want to know: what else could have been asked ([`alternatives`]), what looks
//! wrong ([`warnings`]), and whether PostgreSQL did as it was meant to ([`pg_plan`]).

pub mod alternatives;
pub mod distance;
pub mod merge;
pub mod pg_plan;
pub mod plan;
pub mod warnings;
