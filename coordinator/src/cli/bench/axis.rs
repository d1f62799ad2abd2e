//! Axes of plots: from a value to a place between 0 and 1, and the marks that people read it by.

/// How values are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// Evenly.
    Linear,
    /// Each factor of ten takes the same room.
    Log,
    /// Percentiles: each further nine takes the same room.
    Nines,
}

/// What an axis says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    /// What is measured, with its unit.
    pub(super) label: &'static str,
    pub(super) scale: Scale,
}

/// The part of an axis that a plot shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Range {
    scale: Scale,
    from: f64,
    to: f64,
}

impl Axis {
    /// A range that holds these values.
    pub(super) fn range(&self, values: impl Iterator<Item = f64> + Clone) -> Range {
        let scale = self.scale;
        let values = values.filter(|value| scale.shows(*value)).map(|value| scale.even(value));
        let (mut from, mut to) =
            (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max));
        if from > to {
            (from, to) = (0.0, 1.0);
        }
        let room = match scale {
            Scale::Nines => 0.0,
            Scale::Linear | Scale::Log => ((to - from) * 0.06).max(if scale == Scale::Log { 0.1 } else { 1e-3 }),
        };
        Range { scale, from: from - room, to: (to + room).max(from - room + 1e-9) }
    }
}

impl Scale {
    /// Whether a value has a place: no logarithm has one for 0, and no row of nines for all.
    pub(super) fn shows(self, value: f64) -> bool {
        match self {
            Self::Linear => value.is_finite(),
            Self::Log => value.is_finite() && value > 0.0,
            Self::Nines => (0.0..100.0).contains(&value),
        }
    }

    fn even(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.log10(),
            Self::Nines => -(1.0 - value / 100.0).log10(),
        }
    }
}

impl Range {
    /// Where a value lies, from 0 to 1 for those the range was made for.
    pub(super) fn place(&self, value: f64) -> f64 {
        (self.scale.even(value) - self.from) / (self.to - self.from)
    }

    /// Values to mark, that lie in the range.
    pub(super) fn marks(&self) -> Vec<f64> {
        let marks: Vec<f64> = match self.scale {
            Scale::Linear => {
                let step = step((self.to - self.from) / 5.0);
                let first = (self.from / step).ceil() as i64;
                (first..first + 12).map(|n| n as f64 * step).collect()
            }
            Scale::Log => {
                let decades = self.from.floor() as i32..=self.to.ceil() as i32;
                // Over many decades there is no room for more than one mark in each.
                let digits: &[f64] = if self.to - self.from > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
                decades.flat_map(|decade| digits.iter().map(move |digit| digit * 10_f64.powi(decade))).collect()
            }
            Scale::Nines => vec![0.0, 50.0, 90.0, 99.0, 99.9, 99.99],
        };
        marks.into_iter().filter(|mark| (-1e-9..=1.0 + 1e-9).contains(&self.place(*mark))).collect()
    }
}

/// The nearest of 1, 2 and 5 times a power of ten that is no less.
fn step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|digit| digit * power).find(|step| *step >= least).unwrap_or(power * 10.0)
}

/// A number as short as it can be said.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 10_000.0 => format!("{}k", short(value / 1_000.0)),
        _ => {
            let text = format!("{value:.4}");
            let text = text.trim_end_matches('0').trim_end_matches('.');
            if text == "-0" { "0".to_owned() } else { text.to_owned() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(scale: Scale, values: &[f64]) -> Range {
        Axis { label: "x", scale }.range(values.iter().copied())
    }

    #[test]
    fn every_value_has_its_place_and_order_is_kept() {
        for scale in [Scale::Linear, Scale::Log, Scale::Nines] {
            let range = range(scale, &[1.0, 50.0, 99.9]);
            let places = [1.0, 50.0, 99.9].map(|value| range.place(value));
            assert!(places.is_sorted() && places[0] >= 0.0 && places[2] <= 1.0 + 1e-9, "{scale:?}: {places:?}");
        }
    }

    #[test]
    fn marks_are_round_numbers() {
        assert_eq!(range(Scale::Log, &[1.0, 100.0]).marks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        assert_eq!(range(Scale::Nines, &[0.0, 99.9]).marks(), [0.0, 50.0, 90.0, 99.0, 99.9]);
        let marks: Vec<String> = range(Scale::Linear, &[0.9, 1.0]).marks().into_iter().map(short).collect();
        assert_eq!(marks, ["0.9", "0.95", "1"]);
    }

    #[test]
    fn one_value_or_none_still_makes_a_range() {
        for values in [&[][..], &[3.0], &[0.0], &[f64::NAN]] {
            for scale in [Scale::Linear, Scale::Log, Scale::Nines] {
                let place = range(scale, values).place(3.0);
                assert!(place.is_finite(), "{scale:?} {values:?}: {place}");
                assert!(range(scale, values).marks().len() < 40);
            }
        }
    }

    #[test]
    fn numbers_are_said_shortly() {
        assert_eq!([0.0, -0.0, 0.5, 99.99, 20_000.0, 1_500.0].map(short), ["0", "0", "0.5", "99.99", "20k", "1500"]);
    }
}
