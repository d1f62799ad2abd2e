//! What can be measured.

use serde::Serialize;

/// A kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Scenario {
    /// Search the query's own namespace.
    Own,
    /// Search the query's own namespace and four others.
    Five,
    /// Search all namespaces.
    All,
    /// Search the query's own namespace with a filter.
    Filtered,
    /// Read an entry by its key.
    Get,
    /// Write single entries into small namespaces.
    Upsert,
    /// Import many entries in one stream.
    Bulk,
    /// 71 % own, 10.5 % five, 10.5 % all, 7 % get, 1 % upsert.
    Mixed,
    /// 50 % own, 40 % upsert, 10 % get.
    MixedReadWrite,
}

impl Scenario {
    /// What is measured when nothing is named.
    pub(super) const USUAL: [Self; 6] = [Self::Own, Self::Five, Self::All, Self::Filtered, Self::Get, Self::Upsert];
    /// What is swept when nothing is named.
    pub(super) const SWEPT: [Self; 3] = [Self::Own, Self::Five, Self::All];

    /// The simple scenarios that it is made of, with the share of each in thousandths. `bulk` is no load of requests.
    pub(super) fn parts(self) -> &'static [(u64, Self)] {
        match self {
            Self::Own => &[(1_000, Self::Own)],
            Self::Five => &[(1_000, Self::Five)],
            Self::All => &[(1_000, Self::All)],
            Self::Filtered => &[(1_000, Self::Filtered)],
            Self::Get => &[(1_000, Self::Get)],
            Self::Upsert => &[(1_000, Self::Upsert)],
            Self::Bulk => &[],
            Self::Mixed => {
                &[(710, Self::Own), (105, Self::Five), (105, Self::All), (70, Self::Get), (10, Self::Upsert)]
            }
            Self::MixedReadWrite => &[(500, Self::Own), (400, Self::Upsert), (100, Self::Get)],
        }
    }

    /// Whether it is searches alone: then recall can be told, and is worth a sweep.
    pub(super) fn searches(self) -> bool {
        matches!(self, Self::Own | Self::Five | Self::All | Self::Filtered)
    }

    /// Whether its requests are of one kind, so that a floor means something.
    pub(super) fn has_floor(self) -> bool {
        self.parts().len() == 1
    }

    /// Its word.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Five => "five",
            Self::All => "all",
            Self::Filtered => "filtered",
            Self::Get => "get",
            Self::Upsert => "upsert",
            Self::Bulk => "bulk",
            Self::Mixed => "mixed",
            Self::MixedReadWrite => "mixed-read-write",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn shares_add_up_and_parts_are_simple() {
        for scenario in Scenario::value_variants() {
            let parts = scenario.parts();
            let whole: u64 = parts.iter().map(|(share, _)| share).sum();
            assert!(whole == 1_000 || *scenario == Scenario::Bulk, "{scenario:?}");
            assert!(parts.iter().all(|(_, part)| part.parts() == [(1_000, *part)]), "{scenario:?}");
        }
    }

    #[test]
    fn a_scenario_has_one_name() {
        for scenario in Scenario::value_variants() {
            assert_eq!(scenario.to_possible_value().unwrap().get_name(), scenario.name());
            assert_eq!(serde_json::to_value(scenario).unwrap(), scenario.name());
        }
    }
}
