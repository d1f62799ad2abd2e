//! How recall is watched over, as an operator may set it.

use serde::{Deserialize, Serialize};

/// Section `search` of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SearchSettings {
    /// Share of live searches that are run again exactly, to estimate recall: 0 to 1. Never more than one a second.
    pub recheck_share: f64,
    /// Measuring which ef gives which recall.
    pub calibration: CalibrationSettings,
}

/// Section `search.calibration`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CalibrationSettings {
    /// Whether this coordinator measures, and goes by it.
    pub enabled: bool,
    /// Stored vectors that are searched for in a minute, at most. Each costs an exact search and one for each ef that is tried.
    pub queries_per_minute: u32,
}

impl Default for SearchSettings {
    fn default() -> Self {
        Self { recheck_share: 0.001, calibration: CalibrationSettings::default() }
    }
}

impl Default for CalibrationSettings {
    fn default() -> Self {
        Self { enabled: true, queries_per_minute: 30 }
    }
}
