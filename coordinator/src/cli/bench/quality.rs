//! Recall against speed: what searches ask for.

use crate::cli::one_of;
use crate::cli::search::PROFILES;
use atoll_proto::limits;
use atoll_proto::search::Profile;
use serde_json::{Value, json};

/// ef of a sweep.
const SWEPT_EF: [u32; 6] = [10, 20, 40, 80, 120, 200];
const SWEPT_PROFILES: [Profile; 3] = [Profile::Speed, Profile::Balanced, Profile::Accuracy];

/// How good answers should be; one of them.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(super) struct QualityArgs {
    /// Recall against speed. [default: auto]
    #[arg(long, value_parser = one_of::<Profile>(PROFILES))]
    profile: Option<Profile>,
    /// `hnsw.ef_search` of each shard.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::EF)))]
    ef: Option<u32>,
    /// Recall to aim for, 0 to 1.
    #[arg(long, value_name = "R")]
    target_recall: Option<f64>,
    /// Look at every entry.
    #[arg(long)]
    exact: bool,
    /// Search with ef 10, 20, 40, 80, 120 and 200 and with each profile, one after the other.
    #[arg(long)]
    pub(super) sweep: bool,
}

/// How good an answer should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Quality {
    Profile(Profile),
    Ef(u32),
    TargetRecall(f64),
    Exact,
}

impl QualityArgs {
    /// What was asked for, one after the other.
    pub(super) fn all(&self) -> Vec<Quality> {
        if self.sweep {
            let ef = SWEPT_EF.map(Quality::Ef);
            return ef.into_iter().chain(SWEPT_PROFILES.map(Quality::Profile)).collect();
        }
        vec![match (self.profile, self.ef, self.target_recall, self.exact) {
            (_, _, _, true) => Quality::Exact,
            (_, Some(ef), _, _) => Quality::Ef(ef),
            (_, _, Some(recall), _) => Quality::TargetRecall(recall),
            (profile, None, None, false) => Quality::Profile(profile.unwrap_or_default()),
        }]
    }
}

impl Quality {
    /// Makes a search ask for it.
    pub(super) fn ask(self, search: &mut Value) {
        match self {
            Self::Profile(profile) => search["profile"] = json!(profile),
            Self::Ef(ef) => search["ef"] = json!(ef),
            Self::TargetRecall(recall) => search["target_recall"] = json!(recall),
            Self::Exact => search["exact"] = json!(true),
        }
    }

    /// For people.
    pub(super) fn name(self) -> String {
        match self {
            Self::Profile(Profile::Accuracy) => "accuracy".to_owned(),
            Self::Profile(Profile::Balanced) => "balanced".to_owned(),
            Self::Profile(Profile::Speed) => "speed".to_owned(),
            Self::Profile(Profile::Auto) => "auto".to_owned(),
            Self::Ef(ef) => format!("ef {ef}"),
            Self::TargetRecall(recall) => format!("recall {recall}"),
            Self::Exact => "exact".to_owned(),
        }
    }

    /// Whether it is one of a row of numbers, which a line can join.
    pub(super) fn is_ef(name: &str) -> bool {
        name.starts_with("ef ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_asks_for_one_quality() {
        let asked = |quality: Quality| {
            let mut search = json!({});
            quality.ask(&mut search);
            search
        };
        assert_eq!(asked(Quality::Profile(Profile::Speed)), json!({"profile": "speed"}));
        assert_eq!(asked(Quality::Ef(40)), json!({"ef": 40}));
        assert_eq!(asked(Quality::TargetRecall(0.98)), json!({"target_recall": 0.98}));
        assert_eq!(asked(Quality::Exact), json!({"exact": true}));
    }

    #[test]
    fn a_sweep_is_every_ef_and_every_profile() {
        let args = QualityArgs { profile: None, ef: None, target_recall: None, exact: false, sweep: true };
        let names: Vec<String> = args.all().into_iter().map(Quality::name).collect();
        assert_eq!(names.len(), 9);
        assert_eq!(names.iter().filter(|name| Quality::is_ef(name)).count(), 6);
    }
}
