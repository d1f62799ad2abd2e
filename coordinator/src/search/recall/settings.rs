//! How recall is watched over, as an operator may set it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Section `search` of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SearchSettings {
    /// Share of live searches that are run again exactly, to estimate recall, one a second at most: 0 to 1, 0 for none.
    pub recheck_share: f64,
    /// Measuring which ef gives which recall.
    pub calibration: CalibrationSettings,
}

/// Section `search.calibration`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CalibrationSettings {
    /// Measure which ef gives which recall, and go by it.
    pub enabled: bool,
    /// Stored entries searched for in a minute to measure, at most; each costs an exact search and eight others, six where a single graph
    /// is walked.
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
