//! Whether a vector fits its collection.

use atoll_proto::{CollectionSettings, Metric, Vector, VectorType};

/// Largest sum of squares whose 32-bit arithmetic on a worker stays finite, with room for a difference of two vectors.
const SQUARES_MAX: f64 = f32::MAX as f64 / 8.0;
/// Smallest sum of squares that 32-bit arithmetic tells from zero.
const SQUARES_MIN: f64 = 1e-37;

/// Says what is wrong with a vector for a collection of so many dimensions, if anything is.
pub(crate) fn check(vector: &Vector, dimensions: u32, settings: &CollectionSettings) -> Result<(), String> {
    let given = vector.dimensions();
    if given != dimensions as usize {
        return Err(format!("{dimensions} numbers expected, {given} given"));
    }
    if settings.vector_type == VectorType::Float16
        && let Some(index) = vector.as_slice().iter().position(|x| !half::f16::from_f32(*x).is_finite())
    {
        return Err(format!("number {index} does not fit a finite 16-bit float"));
    }
    let squares: f64 = vector
        .as_slice()
        .iter()
        .map(|x| match settings.vector_type {
            VectorType::Float32 => f64::from(*x),
            VectorType::Float16 => half::f16::from_f32(*x).to_f64(),
        })
        .map(|x| x * x)
        .sum();
    if squares > SQUARES_MAX {
        return Err("the vector is too long: distances from it would not be finite in 32 bits".to_owned());
    }
    if settings.metric == Metric::Cosine && squares < SQUARES_MIN {
        return Err("a zero vector has no direction, so no cosine".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn checked(numbers: &[f32], metric: Metric, vector_type: VectorType) -> bool {
        let settings =
            CollectionSettings { dimensions: Some(2), metric, vector_type, ..CollectionSettings::memory_entries() };
        check(&Vector::new(numbers.to_vec()).unwrap(), 2, &settings).is_ok()
    }

    #[test]
    fn what_a_worker_can_not_compute_with_is_refused() {
        use {Metric::*, VectorType::*};
        assert!(checked(&[1.0, 0.0], Cosine, Float32));
        assert!(!checked(&[1.0], Cosine, Float32));
        assert!(!checked(&[0.0, 0.0], Cosine, Float32));
        assert!(!checked(&[1e-30, 0.0], Cosine, Float32));
        assert!(checked(&[0.0, 0.0], L2, Float32));
        assert!(checked(&[1e15, 0.0], L2, Float32));
        assert!(!checked(&[1e25, 0.0], Dot, Float32));
        assert!(checked(&[65_504.0, 0.0], L2, Float16));
        assert!(!checked(&[65_536.0, 0.0], L2, Float16));
        // Rounds to zero in 16 bits.
        assert!(!checked(&[1e-9, 0.0], Cosine, Float16));
    }
}
