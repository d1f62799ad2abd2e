"""Bars hold and do not hold: python3 -m unittest discover --start-directory deploy/load --pattern '*_test.py'"""

import unittest

from bars import SHAPES, Bars, Figures, judge

FINE = Figures(answered=9995, refused=5, failed=0, p95_ms=12, rate=1200, pool=0.5, drift_p95=1.1, drift_connections=1.0)


def missed(bars, **changed):
    return [name for name, *_, holds in judge(Figures(**{**vars(FINE), **changed}), bars) if not holds]


class BarsHold(unittest.TestCase):
    def test_each_shape_is_passed_by_figures_that_are_fine(self):
        for name, (*_, bars) in SHAPES.items():
            self.assertEqual(missed(bars), [], name)

    def test_each_bar_is_missed(self):
        normal, soak = SHAPES["normal"][-1], SHAPES["soak"][-1]
        self.assertEqual(missed(normal, refused=50), ["answered"])
        self.assertEqual(missed(normal, failed=50), ["answered", "failed"])
        self.assertEqual(missed(normal, p95_ms=16), ["p95, ms"])
        self.assertEqual(missed(normal, rate=900), ["requests/s"])
        self.assertEqual(missed(normal, pool=0.7), ["pool in use"])
        self.assertEqual(missed(soak, drift_p95=1.3), ["p95, end to start"])
        self.assertEqual(missed(soak, drift_connections=1.3), ["connections, end to start"])

    def test_refusals_are_no_failures(self):
        self.assertEqual(missed(SHAPES["stress"][-1], refused=9000), [])
        self.assertEqual(missed(SHAPES["peak"][-1], refused=400), [])
        self.assertEqual(missed(SHAPES["peak"][-1], refused=600), ["answered"])

    def test_what_is_not_known_and_what_did_not_happen(self):
        self.assertEqual(missed(SHAPES["normal"][-1], pool=None), ["pool in use"])
        self.assertEqual(missed(Bars(), answered=0, refused=0), ["requests answered"])


if __name__ == "__main__":
    unittest.main()
