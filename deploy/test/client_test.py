"""What an answer says of a write, of which the whole check of a history depends."""

import unittest

from client import by_namespace, outcomes, said
from history import Outcome

VALUES = {("n1", "a"): "1", ("n2", "b"): None}


def problem(code):
    return {"code": code}


class Answers(unittest.TestCase):
    def test_as_a_whole(self):
        for status, answer, outcome in [
            (200, {}, Outcome.ACKNOWLEDGED),
            (503, problem("shard-unavailable"), Outcome.REFUSED),
            (429, problem("overloaded"), Outcome.REFUSED),
            (504, problem("deadline-exceeded"), Outcome.REFUSED),
            (504, problem("write-outcome-unknown"), Outcome.UNKNOWN),
            (502, problem("write-outcome-unknown"), Outcome.UNKNOWN),
            (500, problem("internal"), Outcome.UNKNOWN),
            (None, problem("no answer"), Outcome.UNKNOWN),
            (None, problem("broken"), Outcome.UNKNOWN),
        ]:
            self.assertEqual(outcomes(status, answer, VALUES), [(VALUES, outcome)], answer)

    def test_in_parts(self):
        results = [{"namespace": "n1", "key": "a", "problem": None}, {"namespace": "n2", "key": "b", "problem": problem("write-outcome-unknown")}]
        self.assertEqual(outcomes(207, {"results": results}, VALUES), [({("n1", "a"): "1"}, Outcome.ACKNOWLEDGED), ({("n2", "b"): None}, Outcome.UNKNOWN)])
        self.assertEqual(said(207, {"results": results}), "207 write-outcome-unknown")

    def test_parts_that_happen_together(self):
        self.assertEqual(by_namespace({("n1", "a"): "1", ("n2", "b"): "2", ("n1", "c"): "3"}), [{("n1", "a"): "1", ("n1", "c"): "3"}, {("n2", "b"): "2"}])

    def test_in_a_few_words(self):
        self.assertEqual(said(200, {}), "ok")
        self.assertEqual(said(503, problem("shard-unavailable")), "503 shard-unavailable")
        self.assertEqual(said(None, problem("no answer")), "no answer")


if __name__ == "__main__":
    unittest.main()
