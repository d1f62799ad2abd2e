"""What clients wrote and were told, and whether what is stored agrees with it.

Every write has a value that no other has, so a stored value tells which write it is of. The writes of one id are in one order, because one
client alone writes it, one after the other. So all that may be stored follows from what the client was told:

- acknowledged: this write's value, and nothing earlier;
- refused: nothing happened, so its value may never be seen;
- unknown (the connection broke, no answer came): either. Such a write may even happen much later, so its id is *open*: it is not written again
  until the very same write, repeated under its idempotency key, was acknowledged.

Writes that one request made on one shard happen together or not at all."""

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum


class Outcome(Enum):
    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """Something that is stored and must not be, or the other way round."""

    kind: str
    id: object
    detail: str


@dataclass
class Writes:
    """Of one id. None stands for its absence, as before all writes and after a delete."""

    may_be: set = field(default_factory=lambda: {None})
    tried: dict = field(default_factory=dict)
    open: tuple = None

    @property
    def expected(self):
        """The one thing that may be stored; asked of ids that are not open."""
        (value,) = self.may_be
        return value


class History:
    def __init__(self):
        self.of_id = {}
        self.together = []
        self.acknowledged = Counter()

    def writes(self, id):
        return self.of_id.setdefault(id, Writes())

    def record(self, values, outcome):
        """One request that was to be done as a whole: `values` by id, None to delete. Whoever writes to several shards at once records each
        entry by itself."""
        for id, value in values.items():
            writes = self.writes(id)
            if writes.open is not None:
                raise ValueError(f"{id} was written again although nobody knows what became of {writes.open[0]}")
            if value is not None:
                if value in writes.tried:
                    raise ValueError(f"{value} was written twice")
                writes.tried[value] = outcome
            if outcome is Outcome.ACKNOWLEDGED:
                writes.may_be = {value}
                self.acknowledged["deletes" if value is None else "puts"] += 1
            elif outcome is Outcome.UNKNOWN:
                writes.may_be = writes.may_be | {value}
                writes.open = (value,)
        if outcome is Outcome.UNKNOWN and len(values) > 1:
            self.together.append(values)

    def acknowledge(self, values):
        """A write of unknown outcome was repeated under its idempotency key, and now is acknowledged."""
        for id, value in values.items():
            writes = self.writes(id)
            if writes.open != (value,):
                raise ValueError(f"{id} waits for {writes.open}, not for {value}")
            writes.open = None
            writes.may_be = {value}
            if value is not None:
                writes.tried[value] = Outcome.ACKNOWLEDGED
            self.acknowledged["deletes" if value is None else "puts"] += 1

    def is_open(self, id):
        return id in self.of_id and self.of_id[id].open is not None

    def check(self, listed, counted):
        """Findings in `listed`, all that is stored as (id, value), and in `counted`, how much is stored by the store's own account."""
        findings = []
        stored = {}
        for id, value in listed:
            if id in stored:
                findings.append(Finding("double", id, f"listed as {stored[id]} and as {value}"))
            stored[id] = value
        if not counted == len(listed) == len(stored):
            findings.append(Finding("count", None, f"{counted} counted, {len(listed)} listed, {len(stored)} of them distinct"))
        findings += [Finding("unwritten", id, f"{value} is stored") for id, value in stored.items() if id not in self.of_id]
        for id, writes in self.of_id.items():
            kind = wrong(writes, stored.get(id))
            if kind:
                findings.append(Finding(kind, id, f"{stored.get(id)} is stored, and may be: {sorted(map(str, writes.may_be))}"))
        for values in self.together:
            # Of a delete of what was not there nobody can tell.
            told = {id: value for id, value in values.items() if self.writes(id).open == (value,) and len(self.writes(id).may_be) == 2}
            happened = {id for id, value in told.items() if stored.get(id) == value}
            if happened and len(happened) < len(told):
                findings.append(Finding("torn", None, f"of one request on one shard, {told}, there happened only {sorted(happened)}"))
        return findings


def wrong(writes, value):
    """What is wrong with a stored value, None being absence; None if it may be."""
    if value in writes.may_be:
        return None
    if value is None:
        return "lost"
    if value not in writes.tried:
        return "unwritten"
    if writes.tried[value] is Outcome.REFUSED:
        return "refused-and-there"
    return "resurrected" if writes.may_be == {None} else "stale"
