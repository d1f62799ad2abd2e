//! The agents beside the PostgreSQL servers, as a coordinator sees them.
//!
//! - [`AgentClient`] asks one agent.
//! - [`AgentBoard`] asks them all every second and remembers what they said.

mod board;
mod client;

pub use board::{AgentBoard, AgentRecord};
pub use client::AgentClient;
