"""One client of the workload: what it asks, what it must be answered, and what an answer says of a write."""

import http.client
import json
import random
import threading
import time
import uuid
from dataclasses import dataclass

from history import Outcome

COLLECTION = "chaos"
DIMENSIONS = 8
IDS_MAX = 120
BATCH_MAX = 8
# Longer than a coordinator's own deadline of 2 s, so that only what is cut off has no answer.
ANSWER_SECONDS = 5
PAUSE_SECONDS = 0.01
# Of the writes of half of the clients: those that carry an idempotency key.
KEYED_SHARE = 0.3
# What became of a write, by the problem that its answer is. Of all other problems it is that nothing happened.
UNKNOWN_CODES = {"write-outcome-unknown", "internal", "no answer", "broken"}


@dataclass(frozen=True)
class Request:
    """How one request was answered. Times are of the monotonic clock."""

    began: float
    ended: float
    kind: str
    groups: frozenset
    answer: str

    @property
    def ok(self):
        return self.answer == "ok"


@dataclass(frozen=True)
class Repeat:
    """A write of unknown outcome, as it was sent."""

    path: str
    body: dict
    key: str
    values: dict


class Line:
    """A connection that is made anew after a failure."""

    def __init__(self, cluster):
        self.port = cluster.port
        self.connection = None

    def send(self, method, path, body, headers):
        """Status and answer; None, and what happened in a problem's place, where there is none."""
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
            self.connection.request(method, path, json.dumps(body), {"Content-Type": "application/json", **headers})
            answer = self.connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.connection.close()
            self.connection = None
            return None, {"code": "no answer" if isinstance(error, TimeoutError) else "broken"}


class Client(threading.Thread):
    """Writes ids that are its own, in `namespaces`, one request after the other."""

    def __init__(self, workload, name, namespaces, keyed):
        super().__init__(name=name, daemon=True)
        self.workload = workload
        self.namespaces = namespaces
        self.keyed_share = KEYED_SHARE if keyed else 0
        self.line = Line(workload.cluster)
        self.busy = threading.Lock()
        self.ids = {namespace: [] for namespace in namespaces}
        self.serial = 0

    def run(self):
        while True:
            self.workload.going.wait()
            if self.workload.ended.is_set():
                return
            with self.busy:
                if self.workload.going.is_set():
                    random.choices([self.put, self.delete, self.read, self.search], [40, 10, 25, 25])[0]()
            time.sleep(PAUSE_SECONDS)

    def next(self):
        self.serial += 1
        return f"{self.name}-{self.serial}"

    def put(self):
        """A batch into one namespace, which happens as a whole; by the client of all groups into several."""
        wanted = random.randint(1, BATCH_MAX)
        if self.name == "all":
            namespaces = random.sample(self.namespaces, wanted)
        else:
            namespaces = [random.choice(self.namespaces)] * wanted
        entries = {}
        for namespace in namespaces:
            id = self.id_to_write(namespace)
            value = self.next()
            entries[id] = {"namespace": namespace, "key": id[1], "value": value, "vector": vector_of(value)}
        self.write("entries", {"entries": list(entries.values())}, {id: entry["value"] for id, entry in entries.items()})

    def id_to_write(self, namespace):
        """One that is not open: a new one while there are few, else any."""
        history, ids = self.workload.history, self.ids[namespace]
        if len(ids) < IDS_MAX // len(self.namespaces) + 1:
            ids.append((namespace, self.next()))
            return ids[-1]
        id = random.choice(ids)
        if history.is_open(id):
            ids.remove(id)
            return self.id_to_write(namespace)
        return id

    def known(self):
        """A namespace, and the ids in it of which is known what is stored."""
        namespace = random.choice(self.namespaces)
        history = self.workload.history
        return namespace, [id for id in self.ids[namespace] if id in history.of_id and not history.is_open(id)]

    def delete(self):
        _, ids = self.known()
        if ids:
            chosen = random.sample(ids, min(len(ids), 2))
            self.write("entries/delete", {"ids": named(chosen)}, dict.fromkeys(chosen))

    def write(self, path, body, values):
        # Keys are remembered for a day, longer than a run.
        key = str(uuid.uuid4()) if random.random() < self.keyed_share else None
        path = f"/v1/collections/{COLLECTION}/{path}"
        status, answer = self.send("write", path, body, values, key)
        with self.workload.lock:
            for part, outcome in outcomes(status, answer, values):
                for on_one_shard in by_namespace(part):
                    self.workload.history.record(on_one_shard, outcome)
                if key and outcome is Outcome.UNKNOWN and part == values:
                    self.workload.repeats.append(Repeat(path, body, key, values))

    def read(self):
        """What was acknowledged is what is read, and nothing that was deleted."""
        namespace, ids = self.known()
        if not ids:
            return
        body = {"ids": named(ids), "include": ["value"]}
        status, answer = self.send("read", f"/v1/collections/{COLLECTION}/entries/get", body, ids)
        if status == 200:
            wanted = {id: self.workload.history.of_id[id].expected for id in ids}
            found = {(entry["namespace"], entry["key"]): entry["value"] for entry in answer["entries"]}
            self.expect(found == {id: value for id, value in wanted.items() if value is not None}, f"read of {namespace}: {found} for {wanted}")

    def search(self):
        """An entry is the nearest to its own vector, in its namespace as in all."""
        namespace, ids = self.known()
        ids = [id for id in ids if self.workload.history.of_id[id].expected is not None]
        if not ids:
            return
        id = random.choice(ids)
        where = {"all": True} if self.name == "all" else {"namespaces": [namespace]}
        value = self.workload.history.of_id[id].expected
        body = {"vector": vector_of(value), "k": 1, "exact": True, "cache": "bypass", **where}
        asked = [(one, None) for one in self.namespaces] if self.name == "all" else [id]
        status, answer = self.send("search", f"/v1/collections/{COLLECTION}/search", body, asked)
        if status == 200:
            hits = [((hit["namespace"], hit["key"]), hit["value"]) for hit in answer["hits"]]
            self.expect(hits == [(id, value)], f"search for {id}: {hits}")

    def send(self, kind, path, body, ids, key=None):
        began = time.monotonic()
        status, answer = self.line.send("POST", path, body, {"Idempotency-Key": key} if key else {})
        # Under a key the shard that it is hashed to takes part, which may be of any group.
        groups = self.workload.groups if key else frozenset(self.workload.group_of[namespace] for namespace, _ in ids)
        request = Request(began, time.monotonic(), kind, groups, said(status, answer))
        with self.workload.lock:
            self.workload.requests.append(request)
        return status, answer

    def expect(self, holds, otherwise):
        if not holds:
            with self.workload.lock:
                self.workload.wrong.append(otherwise)


def vector_of(value):
    """Of each value its own, the same each time."""
    chance = random.Random(value)
    return [chance.gauss(0, 1) for _ in range(DIMENSIONS)]


def named(ids):
    return [{"namespace": namespace, "key": key} for namespace, key in ids]


def said(status, answer):
    """An answer in a few words: `ok`, a status with its problem's code, or that there was none."""
    if status == 200:
        return "ok"
    if status == 207:
        codes = {result["problem"]["code"] for result in answer["results"] if result["problem"]}
        return f"207 {'+'.join(sorted(codes))}"
    return answer["code"] if status is None else f"{status} {answer.get('code')}"


def by_namespace(values):
    """The parts of a request that surely happen together: all of one namespace are on one shard."""
    parts = {}
    for id, value in values.items():
        parts.setdefault(id[0], {})[id] = value
    return list(parts.values())


def outcomes(status, answer, values):
    """What became of a request's writes: as a whole, or of each where it touched several shards and a part failed."""
    if status == 200:
        return [(values, Outcome.ACKNOWLEDGED)]
    if status == 207:
        return [({(result["namespace"], result["key"]): values[(result["namespace"], result["key"])]}, outcome_of(result["problem"]))
                for result in answer["results"]]
    return [(values, outcome_of(answer))]


def outcome_of(problem):
    if problem is None:
        return Outcome.ACKNOWLEDGED
    return Outcome.UNKNOWN if problem["code"] in UNKNOWN_CODES else Outcome.REFUSED
