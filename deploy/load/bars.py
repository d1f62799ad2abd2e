"""What a run has to reach, and whether it did: figures in, sentences out."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bars:
    """None: not asked for."""

    # Share of all requests that were answered as they should be; a refusal (429 with Retry-After) is not.
    answered_min: float | None = None
    # Share of all requests that failed in any other way than by such a refusal.
    failed_max: float | None = 0.001
    p95_ms_max: float | None = None
    rate_min: float | None = None
    # Mean of the share of the fullest pool's connections that are in use.
    pool_max: float | None = None
    # The 95th percentile of the last fifth of the run, and its connections, as a multiple of the first fifth's.
    drift_max: float | None = None


# A shape is so many users, so many of whom come each second, for so long, and what they have to be given.
SHAPES = {
    "normal": (100, 10, 600, Bars(answered_min=0.999, p95_ms_max=15, rate_min=1000, pool_max=0.6)),
    "peak": (300, 30, 300, Bars(answered_min=0.95, p95_ms_max=25)),
    "stress": (500, 50, 900, Bars()),
    "soak": (100, 10, 3600, Bars(answered_min=0.999, p95_ms_max=15, pool_max=0.6, drift_max=1.25)),
}


@dataclass(frozen=True)
class Figures:
    answered: int
    refused: int
    failed: int
    p95_ms: float
    rate: float
    # None where they could not be read.
    pool: float | None
    drift_p95: float | None
    drift_connections: float | None


def judge(figures, bars):
    """Each bar: its name, what was reached, what was asked for, and whether that holds. A figure that is missing does not hold."""
    asked = max(figures.answered + figures.refused + figures.failed, 1)
    lines = [
        ("answered", figures.answered / asked, bars.answered_min, ">="),
        ("failed", figures.failed / asked, bars.failed_max, "<="),
        ("p95, ms", figures.p95_ms, bars.p95_ms_max, "<="),
        ("requests/s", figures.rate, bars.rate_min, ">="),
        ("pool in use", figures.pool, bars.pool_max, "<="),
        ("p95, end to start", figures.drift_p95, bars.drift_max, "<="),
        ("connections, end to start", figures.drift_connections, bars.drift_max, "<="),
    ]
    judged = [(name, reached, f"{sign} {bar:g}", reached is not None and (reached >= bar if sign == ">=" else reached <= bar))
              for name, reached, bar, sign in lines if bar is not None]
    return [*judged, ("requests answered", figures.answered, ">= 1", figures.answered > 0)]
