"""The checker of histories finds what is planted, and nothing else: python3 -m unittest discover --start-directory deploy/test --pattern '*_test.py'"""

import unittest

from history import History, Outcome

ACKNOWLEDGED, REFUSED, UNKNOWN = Outcome.ACKNOWLEDGED, Outcome.REFUSED, Outcome.UNKNOWN


def written(*requests):
    history = History()
    for values, outcome in requests:
        history.record(values, outcome)
    return history


class Checks(unittest.TestCase):
    def kinds(self, history, stored, counted=None):
        listed = list(stored.items()) if isinstance(stored, dict) else stored
        findings = history.check(listed, len(listed) if counted is None else counted)
        return sorted(finding.kind for finding in findings)

    def test_what_was_acknowledged_is_there(self):
        history = written(({"a": "1"}, ACKNOWLEDGED), ({"a": "2", "b": "3"}, ACKNOWLEDGED), ({"b": None}, ACKNOWLEDGED))
        self.assertEqual(self.kinds(history, {"a": "2"}), [])
        self.assertEqual(history.acknowledged, {"puts": 3, "deletes": 1})

    def test_a_planted_loss(self):
        history = written(({"a": "1"}, ACKNOWLEDGED), ({"b": "2"}, ACKNOWLEDGED))
        self.assertEqual(self.kinds(history, {"a": "1"}), ["lost"])

    def test_an_earlier_value(self):
        history = written(({"a": "1"}, ACKNOWLEDGED), ({"a": "2"}, ACKNOWLEDGED))
        self.assertEqual(self.kinds(history, {"a": "1"}), ["stale"])

    def test_a_resurrected_delete(self):
        history = written(({"a": "1"}, ACKNOWLEDGED), ({"a": None}, ACKNOWLEDGED))
        self.assertEqual(self.kinds(history, {"a": "1"}), ["resurrected"])

    def test_a_delete_that_is_written_again_is_there(self):
        history = written(({"a": "1"}, ACKNOWLEDGED), ({"a": None}, ACKNOWLEDGED), ({"a": "2"}, ACKNOWLEDGED))
        self.assertEqual(self.kinds(history, {"a": "2"}), [])
        self.assertEqual(self.kinds(history, {"a": "1"}), ["stale"])

    def test_a_double(self):
        history = written(({"a": "1"}, ACKNOWLEDGED))
        self.assertEqual(self.kinds(history, [("a", "1"), ("a", "1")]), ["count", "double"])

    def test_a_count_that_is_not_the_list(self):
        history = written(({"a": "1"}, ACKNOWLEDGED))
        self.assertEqual(self.kinds(history, {"a": "1"}, counted=2), ["count"])

    def test_what_nobody_wrote(self):
        history = written(({"a": "1"}, ACKNOWLEDGED))
        self.assertEqual(self.kinds(history, {"a": "1", "b": "2"}), ["unwritten"])
        self.assertEqual(self.kinds(history, {"a": "9"}), ["unwritten"])

    def test_a_refused_write_did_not_happen(self):
        history = written(({"a": "1"}, ACKNOWLEDGED), ({"a": "2"}, REFUSED), ({"b": "3"}, REFUSED))
        self.assertEqual(self.kinds(history, {"a": "1"}), [])
        self.assertEqual(self.kinds(history, {"a": "2"}), ["refused-and-there"])
        self.assertEqual(self.kinds(history, {"a": "1", "b": "3"}), ["refused-and-there"])

    def test_a_refused_delete_did_not_happen(self):
        history = written(({"a": "1"}, ACKNOWLEDGED), ({"a": None}, REFUSED))
        self.assertEqual(self.kinds(history, {}), ["lost"])

    def test_an_unknown_write_may_have_happened(self):
        history = written(({"a": "1"}, ACKNOWLEDGED), ({"a": "2"}, UNKNOWN))
        self.assertEqual(self.kinds(history, {"a": "1"}), [])
        self.assertEqual(self.kinds(history, {"a": "2"}), [])
        self.assertEqual(self.kinds(history, {}), ["lost"])

    def test_an_unknown_delete_may_have_happened(self):
        history = written(({"a": "1"}, ACKNOWLEDGED), ({"a": None}, UNKNOWN))
        self.assertEqual(self.kinds(history, {"a": "1"}), [])
        self.assertEqual(self.kinds(history, {}), [])

    def test_an_unknown_write_that_is_acknowledged_when_repeated(self):
        history = written(({"a": "1"}, ACKNOWLEDGED), ({"a": "2"}, UNKNOWN))
        self.assertTrue(history.is_open("a"))
        history.acknowledge({"a": "2"})
        self.assertFalse(history.is_open("a"))
        self.assertEqual(self.kinds(history, {"a": "1"}), ["stale"])

    def test_a_torn_batch(self):
        history = written(({"a": "1", "b": "2"}, UNKNOWN))
        self.assertEqual(self.kinds(history, {}), [])
        self.assertEqual(self.kinds(history, {"a": "1", "b": "2"}), [])
        self.assertEqual(self.kinds(history, {"a": "1"}), ["torn"])

    def test_a_torn_delete(self):
        history = written(({"a": "1", "b": "2"}, ACKNOWLEDGED), ({"a": None, "b": None, "c": None}, UNKNOWN))
        self.assertEqual(self.kinds(history, {"a": "1", "b": "2"}), [])
        self.assertEqual(self.kinds(history, {}), [])
        self.assertEqual(self.kinds(history, {"a": "1"}), ["torn"])

    def test_a_batch_that_became_known_is_not_torn_but_lost(self):
        history = written(({"a": "1", "b": "2"}, UNKNOWN))
        history.acknowledge({"a": "1", "b": "2"})
        self.assertEqual(self.kinds(history, {"a": "1"}), ["lost"])

    def test_open_ids_are_not_written(self):
        history = written(({"a": "1"}, UNKNOWN))
        with self.assertRaises(ValueError):
            history.record({"a": "2"}, ACKNOWLEDGED)
        with self.assertRaises(ValueError):
            history.acknowledge({"a": "3"})

    def test_values_are_written_once(self):
        history = written(({"a": "1"}, ACKNOWLEDGED))
        with self.assertRaises(ValueError):
            history.record({"a": "1"}, ACKNOWLEDGED)


if __name__ == "__main__":
    unittest.main()
