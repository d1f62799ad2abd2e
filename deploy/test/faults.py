"""The faults of the chaos test: how each is made and mended, whose requests may fail by it and how, and how soon all must be well again."""

from dataclasses import dataclass
from itertools import combinations
from typing import Callable

# A batch over several groups tells of each part.
PARTS = ("deadline-exceeded", "shard-unavailable", "write-outcome-unknown")
IN_PARTS = {f"207 {'+'.join(some)}" for count in (1, 2, 3) for some in combinations(PARTS, count)}
# What a request to shards of a worker that is away may be answered.
NO_WORKER = frozenset({"503 shard-unavailable", "504 deadline-exceeded", "504 write-outcome-unknown", *IN_PARTS})
# What may become of requests that were with a coordinator when it died, and when it was paused.
BROKEN = frozenset({"502 write-outcome-unknown", "broken"})
HUNG = BROKEN | {"no answer"}
COORDINATOR_SECONDS = 10
WORKER_SECONDS = 5
# A whole cluster from nothing: recovery of PostgreSQL, an election, agents that register.
RESTART_SECONDS = 30


@dataclass(frozen=True)
class Fault:
    name: str
    make: Callable[[], None]
    mend: Callable[[], None]
    # How long it lasts.
    seconds: float
    # Groups whose requests may fail, by which answers; None: all of them.
    groups: frozenset | None = frozenset()
    allowed: frozenset = frozenset()
    # Most that may, where none may but those under way.
    failed_max: int | None = None
    # Some have to, or the fault was not there.
    must_show: bool = False
    # Workers that must serve by their own account before the time of recovery counts; none: it counts from the fault.
    back: tuple = ()
    recovery_seconds: float = COORDINATOR_SECONDS


def faults(hosts, clients, short, skipped):
    """Each in its turn; `skipped` is told of those that cannot be made here. `clients` is how many requests are under way at once."""
    yield from faults_of_coordinators(hosts, clients, short)
    yield from faults_of_workers(hosts, short)
    if not short:
        yield from faults_of_links(hosts, "worker-3", skipped)
        # Until it has heard of a leader, a coordinator that was started again can't know whether there are keys to ask for.
        everything = [*hosts.coordinators, *hosts.workers]
        yield Fault("all killed at once", lambda: hosts.do("kill", *everything), lambda: hosts.do("start", *everything), 3, groups=None,
                    allowed=NO_WORKER | HUNG | {"503 no-leader"}, must_show=True, back=tuple(hosts.workers), recovery_seconds=RESTART_SECONDS)


def faults_of_coordinators(hosts, clients, short):
    leader = hosts.leader()
    if not short:
        yield Fault("coordinator stopped", lambda: hosts.do("stop", leader), lambda: hosts.do("start", leader), 5)
    leader = hosts.leader()
    yield Fault("coordinator killed", lambda: hosts.do("kill", leader), lambda: hosts.do("start", leader), 5, groups=None, allowed=BROKEN,
                failed_max=clients)
    leader = hosts.leader()
    yield Fault("coordinator paused", lambda: hosts.do("pause", leader), lambda: hosts.do("unpause", leader), 9, groups=None, allowed=HUNG,
                failed_max=2 * clients, must_show=True)


def faults_of_workers(hosts, short):
    def fault(name, number, make, mend, seconds):
        worker = f"worker-{number}"
        return Fault(name, lambda: make(worker), lambda: mend(worker), seconds, groups=frozenset({f"g{number}"}), allowed=NO_WORKER,
                     must_show=True, back=(worker,), recovery_seconds=WORKER_SECONDS)

    def do(command):
        return lambda worker: hosts.do(command, worker)

    yield fault("worker killed", 2, do("kill"), do("start"), 5)
    yield fault("worker cut off from all", 1, hosts.leave_network, hosts.join_network, 8)
    if not short:
        yield fault("worker stopped", 1, do("stop"), do("start"), 8)
        yield fault("worker paused", 3, do("pause"), do("unpause"), 8)
        yield fault("PostgreSQL killed", 2, hosts.kill_postgres, lambda _: None, 0.5)


def faults_of_links(hosts, worker, skipped):
    """Rules in the network of a worker's container."""
    if not hosts.can(worker, "iptables", "--list"):
        skipped("a worker cut off from one coordinator, and bad links: they take root, nsenter and iptables on the machine of the engine")
        return

    def link(name, make, mend, seconds, **more):
        group = frozenset({f"g{worker.removeprefix('worker-')}"})
        return Fault(name, make, mend, seconds, groups=group, allowed=NO_WORKER, **more)

    # That coordinator is ready no more, and the load balancer leads past it: all is well before it is mended.
    peer = hosts.address("coordinator-3")
    yield link("worker cut off from one", lambda: hosts.drop(worker, ("INPUT", "--source", peer), ("OUTPUT", "--destination", peer)),
               lambda: hosts.drop_nothing(worker), 15, must_show=True)

    lost = ("INPUT", "--match", "statistic", "--mode", "random", "--probability", "0.1")
    yield link("link that loses a tenth", lambda: hosts.drop(worker, lost), lambda: hosts.drop_nothing(worker), 8, back=(worker,),
               recovery_seconds=WORKER_SECONDS)

    slow = ("dev", "eth0", "root", "netem", "delay", "200ms", "loss", "1%")
    if hosts.can(worker, "tc", "qdisc", "add", *slow):
        hosts.in_network_of(worker, "tc", "qdisc", "del", *slow[:3])
        yield link("link slow by 200 ms", lambda: hosts.in_network_of(worker, "tc", "qdisc", "add", *slow),
                   lambda: hosts.in_network_of(worker, "tc", "qdisc", "del", *slow[:3]), 8, back=(worker,), recovery_seconds=WORKER_SECONDS)
    else:
        skipped("a link slow by 200 ms: it takes tc, and netem in the kernel")
