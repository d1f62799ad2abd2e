"""Verdicts name what went wrong: of requests that were made up."""

import unittest

from client import Request
from faults import NO_WORKER, Fault
from history import Finding
from verdict import judge, longest_gap, recovered

G1, G2 = frozenset({"g1"}), frozenset({"g2"})


def answered(groups, *times, answer="ok", took=0.1):
    return [Request(time, time + took, "search", groups, answer) for time in times]


def often(groups, begin, end):
    return answered(groups, *(begin + 0.1 * step for step in range(int((end - begin) * 10))))


LOST_WORKER = Fault("worker killed", None, None, 5, groups=G1, allowed=NO_WORKER, must_show=True, back=("worker-1",), recovery_seconds=5)
# The worker of g1 is away from second 10 to 20.
AS_IT_SHOULD = [*often(G1, 7, 10), *answered(G1, 11, 15, 19, 20.5, answer="503 shard-unavailable"), *often(G1, 21, 25), *often(G2, 7, 25)]


class Verdicts(unittest.TestCase):
    def problems(self, requests, fault=LOST_WORKER, lost=(), wrong=()):
        return judge(fault, G1 | G2, requests, 10, 20, list(lost), list(wrong)).problems

    def test_all_is_as_it_should_be(self):
        self.assertEqual(self.problems(AS_IT_SHOULD), [])

    def test_another_groups_request_fails(self):
        problems = self.problems([*AS_IT_SHOULD, *answered(G2, 12, answer="503 shard-unavailable")])
        self.assertEqual(problems, ["1 failed that may not: search answered 503 shard-unavailable"])

    def test_a_request_fails_in_another_way(self):
        problems = self.problems([*AS_IT_SHOULD, *answered(G1, 12, answer="500 internal")])
        self.assertEqual(problems, ["1 failed that may not: search answered 500 internal"])

    def test_recovery_takes_too_long(self):
        late = answered(G1, 26, answer="503 shard-unavailable") + often(G1, 27, 28)
        self.assertIn("recovery took 7.1 s, more than 5 s", self.problems([*AS_IT_SHOULD, *late, *often(G2, 25, 28)]))

    def test_it_never_recovers(self):
        self.assertIn("some requests are still failing", self.problems([*AS_IT_SHOULD, *answered(G1, 26, answer="503 shard-unavailable")]))

    def test_a_fault_that_was_not_there(self):
        self.assertIn("no request failed: the fault was not there", self.problems([*often(G1, 10, 20), *often(G2, 10, 20)]))

    def test_too_little_to_tell(self):
        requests = [*answered(G1, 11, answer="503 shard-unavailable"), *answered(G1, 21), *often(G2, 10, 20)]
        self.assertIn("1 requests of g1 were answered: too few to tell", self.problems(requests))

    def test_more_fail_than_were_under_way(self):
        fault = Fault("coordinator killed", None, None, 5, groups=None, allowed=frozenset({"broken"}), failed_max=1)
        requests = [*often(G1, 10, 20), *often(G2, 10, 20), *answered(G1, 11, 12, answer="broken")]
        self.assertEqual(self.problems(requests, fault), ["2 failed, more than the 1 that can have been under way"])

    def test_a_silence_of_others(self):
        silent = [one for one in AS_IT_SHOULD if one.groups != G2] + often(G2, 7, 11) + often(G2, 17, 25)
        self.assertEqual(self.problems(silent), ["no answer for 6.1 s from groups that have nothing to do with it"])

    def test_what_is_lost_and_what_is_answered_wrong(self):
        problems = self.problems(AS_IT_SHOULD, lost=[Finding("lost", "a", "gone")], wrong=["an old value"])
        self.assertEqual(problems, ["lost: a: gone", "wrong answer: an old value"])

    def test_times(self):
        self.assertEqual(recovered(often(G1, 10, 12), G1, 10), 0)
        self.assertAlmostEqual(longest_gap(answered(G1, 11, 14), "g1", 10), 3)
        self.assertAlmostEqual(longest_gap([*answered(G1, 11), *answered(G2, 19)], "g1", 10), 8)
        self.assertEqual(longest_gap([], "g1", 10), float("inf"))


if __name__ == "__main__":
    unittest.main()
