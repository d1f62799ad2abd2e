"""Entries and their vectors, from files as the sample's: JSON lines, gzipped or not, and f16bin."""

import base64
import gzip
import json
import random
import struct
from collections import Counter
from pathlib import Path

SAMPLE = Path(__file__).resolve().parents[2] / "sample"
HEADER_BYTES = 8
LINES_AT_ONCE = 500


class Data:
    def __init__(self, entries_file, vectors_file, limit):
        opened = gzip.open if str(entries_file).endswith(".gz") else open
        with opened(entries_file, "rt", encoding="utf-8") as lines:
            self.entries = [json.loads(line) for _, line in zip(range(limit), lines)]
        vectors = Path(vectors_file).read_bytes()
        rows, self.dimensions = struct.unpack_from("<II", vectors)
        if rows < len(self.entries):
            raise ValueError(f"{vectors_file} has {rows} vectors, fewer than the {len(self.entries)} entries")
        for number, entry in enumerate(self.entries):
            halves = struct.unpack_from(f"<{self.dimensions}e", vectors, HEADER_BYTES + 2 * self.dimensions * number)
            entry["vector"] = {"b64": base64.b64encode(struct.pack(f"<{self.dimensions}f", *halves)).decode()}
        self.rows = Counter(entry["namespace"] for entry in self.entries)
        self.namespaces = sorted(self.rows)

    def any_entry(self):
        """By rows: a large namespace is asked as often as it is large."""
        return random.choice(self.entries)

    def lines(self):
        """As an import takes them, some hundred at a time."""
        for start in range(0, len(self.entries), LINES_AT_ONCE):
            stored = [{"namespace": entry["namespace"], "key": entry["key"], "value": entry["text"], "vector": entry["vector"]}
                      for entry in self.entries[start : start + LINES_AT_ONCE]]
            yield "".join(json.dumps(one) + "\n" for one in stored).encode()
