//! Puts together what was counted of single objects. Tables and indexes come and go with collections, graphs and moves: the sum of their
//! counts would fall when one goes, which Prometheus takes for a restart, and count everything anew. So what is told is by how much the
//! counts grew since the agent started.

use crate::telemetry::{PgKind, PgSample};
use std::collections::{BTreeMap, HashMap};

/// A value of one object.
pub(super) struct ObjectSample {
    /// Its oid.
    pub(super) object: i64,
    /// The value, with the labels that it is put together by.
    pub(super) sample: PgSample,
}

/// What was counted last, and how much it grew in all.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// None before the first reading.
    before: Option<HashMap<(i64, &'static str), f64>>,
    grew: HashMap<Series, f64>,
}

/// Name of a metric and values of its labels.
type Series = (&'static str, Vec<String>);

impl Growth {
    /// One value for each metric and its labels.
    pub(super) fn put_together(&mut self, reading: impl Iterator<Item = ObjectSample>) -> Vec<PgSample> {
        let mut now = HashMap::new();
        let mut together: BTreeMap<Series, PgSample> = BTreeMap::new();
        for ObjectSample { object, mut sample } in reading {
            let name = sample.metric.name;
            let series = (name, sample.labels.clone());
            if sample.metric.kind == PgKind::Counter {
                let grown = self.grown(object, name, sample.value);
                now.insert((object, name), sample.value);
                let grew = self.grew.entry(series.clone()).or_default();
                *grew += grown;
                sample.value = *grew;
                together.insert(series, sample);
                continue;
            }
            match together.get_mut(&series) {
                None => drop(together.insert(series, sample)),
                Some(so_far) if sample.metric.kind == PgKind::Largest => so_far.value = so_far.value.max(sample.value),
                Some(so_far) => so_far.value += sample.value,
            }
        }
        self.before = Some(now);
        together.into_values().collect()
    }

    /// By how much one object's count grew since the last reading.
    fn grown(&self, object: i64, name: &'static str, count: f64) -> f64 {
        // What was counted before the agent looked for the first time is nobody's growth.
        let Some(before) = &self.before else { return 0.0 };
        match before.get(&(object, name)) {
            Some(before) if *before <= count => count - before,
            // New, or its statistics began anew.
            Some(_) | None => count,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::telemetry::{PgMetric, postgres};

    fn told(growth: &mut Growth, metric: &'static PgMetric, reading: &[(i64, &str, f64)]) -> Vec<(String, f64)> {
        let reading = reading.iter().map(|(object, kind, value)| ObjectSample {
            object: *object,
            sample: PgSample { metric, labels: vec![(*kind).to_owned()], value: *value },
        });
        let samples = growth.put_together(reading);
        samples.into_iter().map(|mut sample| (sample.labels.pop().unwrap(), sample.value)).collect()
    }

    fn as_told(values: &[(&str, f64)]) -> Vec<(String, f64)> {
        values.iter().map(|(label, value)| ((*label).to_owned(), *value)).collect()
    }

    #[test]
    fn counts_only_grow_although_objects_go() {
        let mut growth = Growth::default();
        let mut told = |reading: &[(i64, &str, f64)]| told(&mut growth, &postgres::SCANS, reading);
        assert_eq!(told(&[(1, "a", 100.0), (2, "a", 7.0), (3, "b", 5.0)]), as_told(&[("a", 0.0), ("b", 0.0)]));
        assert_eq!(told(&[(1, "a", 103.0), (2, "a", 8.0), (3, "b", 5.0)]), as_told(&[("a", 4.0), ("b", 0.0)]));
        assert_eq!(told(&[(2, "a", 9.0), (3, "b", 6.0)]), as_told(&[("a", 5.0), ("b", 1.0)]), "the first is gone");
        assert_eq!(told(&[(2, "a", 9.0), (4, "a", 2.0)]), as_told(&[("a", 7.0)]), "a new one");
        assert_eq!(told(&[(2, "a", 1.0), (4, "a", 2.0)]), as_told(&[("a", 8.0)]), "statistics were reset");
        assert_eq!(told(&[(3, "b", 1.0)]), as_told(&[("b", 2.0)]), "back again: the old count is remembered");
    }

    #[test]
    fn sizes_add_up_and_of_ages_the_largest_counts() {
        let mut growth = Growth::default();
        let reading = [(1, "a", 3.0), (2, "a", 4.0), (3, "b", 1.0)];
        assert_eq!(told(&mut growth, &postgres::LIVE_ROWS, &reading), as_told(&[("a", 7.0), ("b", 1.0)]));
        assert_eq!(told(&mut growth, &postgres::VACUUM_AGE, &reading), as_told(&[("a", 4.0), ("b", 1.0)]));
    }
}
