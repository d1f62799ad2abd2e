//! Exact distances: full precision of what is stored, accumulated in f64. Eight independent sums let the compiler use SIMD
//! without reordering anything that the source does not reorder, so the value is the same on every machine of a target.

use atoll_proto::Metric;
use multiversion::multiversion;

const LANES: usize = 8;

/// A query, with what of it is the same for every candidate.
#[derive(Debug, Clone)]
pub struct Query<'a> {
    metric: Metric,
    vector: &'a [f32],
    norm: f64,
}

impl<'a> Query<'a> {
    /// Prepares `vector` for comparisons by `metric`.
    pub fn new(metric: Metric, vector: &'a [f32]) -> Self {
        Self { metric, vector, norm: square(vector).sqrt() }
    }

    /// What distances mean.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// The operator's value, lower is nearer: cosine 1 - cos, l2 the Euclidean distance, dot the negative inner product.
    /// Both vectors have the same length.
    pub fn distance(&self, stored: &[f32]) -> f64 {
        match self.metric {
            Metric::Cosine => {
                // Two loops over numbers that are near by then: of one loop with two kinds of sums compilers make pairs of numbers, which
                // takes twice as long.
                let cosine = dot(self.vector, stored) / (self.norm * square(stored).sqrt());
                1.0 - cosine.clamp(-1.0, 1.0)
            }
            Metric::L2 => square_of_difference(self.vector, stored).sqrt(),
            // 0.0 - x and not -x: an inner product of zero is the distance 0, never -0, which would sort before it.
            Metric::Dot => 0.0 - dot(self.vector, stored),
        }
    }
}

/// What clients see: higher is better. Cosine 1 - d, dot the inner product, l2 1/(1 + d).
pub fn score(metric: Metric, distance: f64) -> f64 {
    match metric {
        Metric::Cosine => 1.0 - distance,
        Metric::L2 => 1.0 / (1.0 + distance),
        // For the same reason.
        Metric::Dot => 0.0 - distance,
    }
}

#[multiversion(targets("x86_64+avx2+fma", "x86_64+sse4.2", "aarch64+neon"))]
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0_f64; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += f64::from(x[lane]) * f64::from(y[lane]);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
    sums.iter().sum::<f64>() + rest
}

#[multiversion(targets("x86_64+avx2+fma", "x86_64+sse4.2", "aarch64+neon"))]
fn square(a: &[f32]) -> f64 {
    let mut sums = [0.0_f64; LANES];
    let (chunks, rest) = a.as_chunks::<LANES>();
    for x in chunks {
        for lane in 0..LANES {
            sums[lane] += f64::from(x[lane]) * f64::from(x[lane]);
        }
    }
    let rest: f64 = rest.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    sums.iter().sum::<f64>() + rest
}

#[multiversion(targets("x86_64+avx2+fma", "x86_64+sse4.2", "aarch64+neon"))]
fn square_of_difference(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0_f64; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            let difference = f64::from(x[lane]) - f64::from(y[lane]);
            sums[lane] += difference * difference;
        }
    }
    let each = a_rest.iter().zip(b_rest);
    let rest: f64 = each.map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
        let pairs = || a.iter().zip(b).map(|(x, y)| (f64::from(*x), f64::from(*y)));
        let product: f64 = pairs().map(|(x, y)| x * y).sum();
        match metric {
            Metric::Dot => -product,
            Metric::L2 => pairs().map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt(),
            Metric::Cosine => {
                let norms: f64 = pairs().map(|(x, _)| x * x).sum::<f64>() * pairs().map(|(_, y)| y * y).sum::<f64>();
                1.0 - product / norms.sqrt()
            }
        }
    }

    proptest! {
        #[test]
        fn kernels_equal_the_definition(
            pairs in prop::collection::vec((-10.0_f32..10.0, -10.0_f32..10.0), 1..70)
        ) {
            let (mut a, mut b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            a[0] = 11.0;
            b[0] = 12.0;
            for metric in [Metric::Cosine, Metric::L2, Metric::Dot] {
                let got = Query::new(metric, &a).distance(&b);
                prop_assert!((got - naive(metric, &a, &b)).abs() < 1e-9, "{metric:?}");
            }
        }
    }

    #[test]
    fn scores_are_higher_for_nearer() {
        for metric in [Metric::Cosine, Metric::L2, Metric::Dot] {
            assert!(score(metric, 0.1) > score(metric, 0.2));
        }
        assert_eq!(score(Metric::Dot, 0.0).to_string(), "0");
        assert_eq!(Query::new(Metric::Dot, &[1.0, 0.0]).distance(&[0.0, 1.0]).to_string(), "0");
        assert_eq!(Query::new(Metric::Cosine, &[1.0, 0.0]).distance(&[2.0, 0.0]), 0.0);
    }
}
