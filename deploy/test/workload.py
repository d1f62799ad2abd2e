"""Clients that write, read and search all the time, keep a history of what they wrote, and a log of how every request was answered."""

import threading
from contextlib import contextmanager

from checks import check
from client import COLLECTION, DIMENSIONS, Client, Line
from history import History

NAMESPACES = [f"chaos-{number}" for number in range(48)]
CLIENTS_OF_A_GROUP = 2
PAGE = 1000


class Workload:
    def __init__(self, cluster):
        self.cluster = cluster
        self.history = History()
        self.lock = threading.Lock()
        self.requests = []
        self.wrong = []
        self.repeats = []
        self.group_of = {}
        self.clients = []
        self.going = threading.Event()
        self.ended = threading.Event()

    def begin(self):
        self.cluster.make_collection(COLLECTION, DIMENSIONS)
        for namespace in NAMESPACES:
            self.group_of[namespace] = self.cluster.get(f"/v1/collections/{COLLECTION}/namespaces/{namespace}")["group"]
        for group in self.groups:
            of_group = [one for one in NAMESPACES if self.group_of[one] == group]
            # One without idempotency keys asks this group alone, so that it never waits for another.
            self.clients += [Client(self, f"{group}-{number}", of_group, keyed=number > 0) for number in range(CLIENTS_OF_A_GROUP)]
        self.clients.append(Client(self, "all", NAMESPACES, keyed=True))
        for client in self.clients:
            client.start()

    @property
    def groups(self):
        return frozenset(self.group_of.values())

    def end(self):
        self.ended.set()
        self.going.set()
        for client in self.clients:
            client.join()

    @contextmanager
    def traffic(self):
        self.going.set()
        try:
            yield
        finally:
            self.going.clear()
            for client in self.clients:
                with client.busy:
                    pass

    def logged(self, since):
        with self.lock:
            return [request for request in self.requests if request.ended >= since]

    def verify(self):
        """Findings in all that is stored now. While it looks, no client writes; repeats half of the writes of unknown outcome before."""
        with self.lock:
            repeats, self.repeats = self.repeats, []
        for number, repeat in enumerate(repeats):
            if number % 2 == 0:
                status, answer = Line(self.cluster).send("POST", repeat.path, repeat.body, {"Idempotency-Key": repeat.key})
                check(status == 200, f"a write of unknown outcome, repeated under its idempotency key, was answered {status}: {answer}")
                self.history.acknowledge(repeat.values)
        listed = [entry for namespace in NAMESPACES for entry in self.list(namespace)]
        counted = sum(self.post("entries/count", {"namespace": namespace})["count"] for namespace in NAMESPACES)
        return self.history.check(listed, counted)

    def list(self, namespace):
        cursor, found = None, []
        for _ in range(100):
            page = self.post("entries/list", {"namespace": namespace, "limit": PAGE, "include": ["value"], "cursor": cursor})
            found += [((namespace, entry["key"]), entry["value"]) for entry in page["entries"]]
            cursor = page["next_cursor"]
            if cursor is None:
                return found
        raise RuntimeError(f"{namespace} has no end")

    def post(self, path, body):
        status, answer = self.cluster.ask("POST", f"/v1/collections/{COLLECTION}/{path}", body)
        check(status == 200, f"{path}: {status} {answer}")
        return answer
