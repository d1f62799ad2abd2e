"""Users of a cluster, for Locust: 71 % of what they ask is a search of one namespace, 21 % one of several, 7 % an entry by its key, 1 % a new
entry. They check what they are answered, and come again after a refusal when they are told to. `run` beside this starts it; by itself:
locust -f deploy/load/locustfile.py --host http://127.0.0.1:7700"""

import json
import random
import re
import sys
import time
import uuid
from collections import Counter
from urllib.parse import quote

import gevent
import requests
from bars import Bars, Figures, judge
from data import SAMPLE, Data
from locust import FastHttpUser, events, task
from locust.stats import calculate_response_time_percentile as percentile

K = 10
SEVERAL = 5
# Kinds of requests, with their methods.
KINDS = {"own": "POST", "cross": "POST", "get": "GET", "insert": "PUT"}
REFUSED = ("refused", "429")
SLICE_SECONDS = 5
# Most that a refusal is waited for.
RETRY_SECONDS_MAX = 10
KNOWN_SECONDS = 15
GRAPHS_SECONDS = 900
JSON = {"Content-Type": "application/json"}


@events.init_command_line_parser.add_listener
def options(parser):
    data = parser.add_argument_group("Atoll", "what is asked, and what has to be reached; a bar that is 'none' is not asked for")
    data.add_argument("--entries", default=str(SAMPLE / "wordnet.jsonl.gz"), help="entries, one JSON object a line")
    data.add_argument("--vectors", default=str(SAMPLE / "wordnet.f16bin"), help="their vectors")
    data.add_argument("--limit", type=int, default=1_000_000, help="most entries of the file to load")
    data.add_argument("--collection", default="load", help="made, loaded and dropped again")
    data.add_argument("--think-ms", type=float, default=75, help="how long a user waits between two requests, on average")
    for name, default in vars(Bars()).items():
        data.add_argument(f"--{name.replace('_', '-')}", type=lambda text: None if text == "none" else float(text), default=default)


class Run:
    """What all users share."""

    def __init__(self, environment):
        chosen = environment.parsed_options
        self.environment = environment
        self.data = Data(chosen.entries, chosen.vectors, chosen.limit)
        self.path = f"/v1/collections/{chosen.collection}"
        self.url = chosen.host.rstrip("/")
        self.slices = {}
        self.pools = []
        self.sampler = None
        self.began = None

    def prepare(self):
        """The collection with its entries, and graphs that are built."""
        self.drop()
        requests.put(self.url + self.path, json={"dimensions": self.data.dimensions, "metric": "cosine"}, timeout=60).raise_for_status()
        deadline = time.monotonic() + KNOWN_SECONDS
        # Coordinators are asked in turn; others than the one that made it may take a moment to know it.
        while not all(requests.get(f"{self.url}{self.path}/namespaces/any", timeout=10).ok for _ in range(9)):
            if time.monotonic() > deadline:
                raise RuntimeError(f"after {KNOWN_SECONDS} s not every coordinator knows the collection")
            time.sleep(0.2)
        kind = {"Content-Type": "application/x-ndjson"}
        loaded = requests.post(f"{self.url}{self.path}/import", data=self.data.lines(), headers=kind, timeout=600)
        last = json.loads(loaded.text.strip().splitlines()[-1])
        if not last["done"] or last["failed"] or last["written"] != len(self.data.entries):
            raise RuntimeError(f"the entries were not loaded: {last}")
        deadline = time.monotonic() + GRAPHS_SECONDS
        while time.monotonic() < deadline:
            builds = requests.get(f"{self.url}/v1/admin/builds", timeout=10).json()
            if not builds["builds"] and not builds["counting"]:
                break
            time.sleep(1)

    def drop(self):
        requests.delete(self.url + self.path, timeout=60)

    def sample(self):
        """Connections, each second, of whichever coordinator answers."""
        while True:
            gevent.sleep(1)
            try:
                text = requests.get(f"{self.url}/metrics", timeout=5).text
            except requests.RequestException:
                continue
            of = {name: dict(re.findall(rf'^db_connections_{name}{{worker="([^"]+)"}} (\S+)$', text, re.MULTILINE)) for name in ("active", "idle", "max")}
            used = [float(of["active"].get(worker, 0)) / float(most) for worker, most in of["max"].items() if float(most)]
            if used:
                connections = sum(float(value) for name in ("active", "idle") for value in of[name].values())
                self.pools.append((time.monotonic(), max(used), connections))

    def took(self, milliseconds):
        number = int((time.monotonic() - self.began) / SLICE_SECONDS)
        self.slices.setdefault(number, Counter())[round(milliseconds)] += 1

    def figures(self):
        stats = self.environment.stats
        times, answered = Counter(), 0
        for of_kind in (stats.get(*kind) for kind in KINDS.items()):
            times.update(of_kind.response_times)
            answered += of_kind.num_requests - of_kind.num_failures
        failed = stats.total.num_failures
        p95 = percentile(times, times.total(), 0.95)
        pool = sum(used for _, used, _ in self.pools) / len(self.pools) if self.pools else None
        seconds = max(stats.total.last_request_timestamp - stats.total.start_time, 1) if answered else 1
        return Figures(answered, stats.get(*REFUSED).num_requests, failed, p95, answered / seconds, pool, *self.drift())

    def drift(self):
        """Of the 95th percentile and of connections: the last fifth of the run by its first, once all users had come."""
        chosen = self.environment.parsed_options
        came = chosen.num_users / chosen.spawn_rate
        numbers = sorted(number for number in self.slices if number * SLICE_SECONDS >= came)
        fifth = len(numbers) // 5
        if not fifth:
            return None, None
        sums = [sum((self.slices[number] for number in part), Counter()) for part in (numbers[:fifth], numbers[-fifth:])]
        first, last = (percentile(counts, counts.total(), 0.95) for counts in sums)
        means = []
        for part in (numbers[:fifth], numbers[-fifth:]):
            begin, end = (self.began + SLICE_SECONDS * number for number in (part[0], part[-1] + 1))
            seen = [connections for when, _, connections in self.pools if begin <= when < end]
            means.append(sum(seen) / len(seen) if seen else None)
        return last / max(first, 1), means[1] / max(means[0], 1) if None not in means else None


run = None


@events.init.add_listener
def prepare(environment, **_):
    """Before the time of the run begins. Of what a listener raises Locust goes on, but for this."""
    global run
    try:
        run = Run(environment)
        run.prepare()
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(f"the entries cannot be loaded: {error!r}")


@events.test_start.add_listener
def begin(**_):
    run.began = time.monotonic()
    run.sampler = gevent.spawn(run.sample)


@events.request.add_listener
def answered(name, response_time, **_):
    if name in KINDS:
        run.took(response_time)


@events.test_stop.add_listener
def end(**_):
    run.sampler.kill()


@events.quitting.add_listener
def verdict(environment, **_):
    """The table, and the exit code."""
    # After a signal users are still asking.
    environment.runner.stop()
    run.drop()
    stats, figures = environment.stats, run.figures()
    print(f"\n{'kind':10}{'requests':>10}{'failed':>8}{'success':>10}{'p50 ms':>8}{'p95 ms':>8}{'p99 ms':>8}")
    for kind, method in KINDS.items():
        one = stats.get(kind, method)
        share = 1 - one.num_failures / one.num_requests if one.num_requests else 0
        tails = [one.get_response_time_percentile(share) for share in (0.5, 0.95, 0.99)]
        print(f"{kind:10}{one.num_requests:>10}{one.num_failures:>8}{share:>10.3%}" + "".join(f"{tail:>8.0f}" for tail in tails))
    print(f"{figures.rate:.0f} answered a second; {figures.refused} refused with 429 and Retry-After, which are not failures\n")
    chosen = environment.parsed_options
    judged = judge(figures, Bars(**{name: getattr(chosen, name) for name in vars(Bars())}))
    for name, reached, bar, holds in judged:
        print(f"{'ok' if holds else 'FAILED':8}{name:28}{'not known' if reached is None else format(reached, '.4g'):>12}   asked for: {bar}")
    environment.process_exit_code = 0 if all(holds for *_, holds in judged) else 1


class Client(FastHttpUser):
    connection_timeout = 10
    network_timeout = 10

    def wait_time(self):
        return random.uniform(0.5, 1.5) * self.environment.parsed_options.think_ms / 1000

    @task(71)
    def own(self):
        entry = run.data.any_entry()
        self.search("own", entry, {"namespaces": [entry["namespace"]]}, run.data.rows[entry["namespace"]])

    @task(21)
    def cross(self):
        """Half of them over five namespaces, the others over all whose names begin alike, or simply all."""
        data = run.data
        several = random.sample(data.namespaces, min(SEVERAL, len(data.namespaces)))
        prefix = random.choice(data.namespaces).split(".")[0]
        where, rows = random.choice([
            ({"namespaces": several}, sum(data.rows[one] for one in several)),
            ({"namespaces": several}, sum(data.rows[one] for one in several)),
            ({"prefix": prefix}, sum(count for one, count in data.rows.items() if one.startswith(prefix))),
            ({"all": True}, len(data.entries)),
        ])
        self.search("cross", data.any_entry(), where, rows)

    def search(self, kind, entry, where, rows):
        def wrong(answer):
            # There may be more entries by now than were loaded.
            hits, least = len(answer["hits"]), min(K, rows)
            return None if answer["complete"] and least <= hits <= K else f"{hits} hits where there are {rows}, complete: {answer['complete']}"

        self.ask(kind, f"{run.path}/search", {"vector": entry["vector"], "k": K, "cache": "bypass", **where}, 200, wrong)

    @task(7)
    def get(self):
        entry = run.data.any_entry()
        path = f"{run.path}/namespaces/{entry['namespace']}/entries/{quote(entry['key'], safe='')}"
        self.ask("get", path, None, 200, lambda found: None if found["value"] == entry["text"] else "another value than was loaded")

    @task(1)
    def insert(self):
        entry = run.data.any_entry()
        body = {"value": entry["text"], "vector": entry["vector"]}
        path = f"{run.path}/namespaces/{entry['namespace']}/entries/new-{uuid.uuid4().hex}"
        self.ask("insert", path, body, 201, lambda answer: None if answer["written"] == 1 else "not written")

    def ask(self, kind, path, body, status, wrong):
        """`wrong` says what is wrong with an answer, None if nothing is."""
        pause = 0
        sent = {"data": json.dumps(body), "headers": JSON} if body else {}
        with self.client.request(KINDS[kind], path, name=kind, catch_response=True, **sent) as response:
            retry_after = response.headers and response.headers.get("Retry-After")
            if response.status_code == 429 and retry_after:
                response.request_meta["name"], response.request_meta["request_type"] = REFUSED
                response.success()
                pause = min(float(retry_after), RETRY_SECONDS_MAX)
            elif response.status_code != status:
                # Of its problem the code alone: failures are counted by what they say.
                code = re.search(r'"code":\s*"([a-z-]+)"', response.text or "")
                response.failure(f"{response.status_code} {code[1] if code else getattr(response, 'error', 'without a problem')}")
            else:
                problem = wrong(response.json())
                response.failure(problem) if problem else response.success()
        if pause:
            gevent.sleep(pause)
