"""A cluster of compose.yaml under test: one that a test makes for itself and takes down again, or one that runs already."""

import http.client
import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

from checks import check, wait_until

ROOT = Path(__file__).resolve().parents[2]
EVERYTHING = ["--profile", "more-workers", "--profile", "sample", "--profile", "monitoring"]
START_SECONDS = 240
# Long after a coordinator's own deadline of 2 s.
ANSWER_SECONDS = 15
COMMAND_SECONDS = 120


def succeeds(*command):
    return shutil.which(command[0]) and subprocess.run(command, capture_output=True, check=False).returncode == 0


def what_is_missing():
    """Why there can be no cluster of containers here; None where there can."""
    if not succeeds("docker", "version"):
        return "There is no Docker engine here."
    return None if find_compose() else "There is no Compose here."


def find_compose():
    return next((one for one in (["docker-compose"], ["docker", "compose"]) if succeeds(*one, "version")), None)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def docker(*arguments, wanted=True):
    """What a command of Docker printed; with `wanted` false, whether it succeeded."""
    ended = subprocess.run(["docker", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           timeout=COMMAND_SECONDS, check=False)
    if not wanted:
        return ended.returncode == 0
    check(ended.returncode == 0, f"docker {' '.join(arguments)} ended with {ended.returncode}:\n{ended.stdout}")
    return ended.stdout


class Cluster:
    """A project of Compose that runs, by its name, and its one port on loopback."""

    def __init__(self, project, port=None):
        self.project = project
        self.port = port or self.port_of("balancer", "7700/tcp")

    def port_of(self, service, inner):
        bound = self.container(service)["NetworkSettings"]["Ports"].get(inner)
        check(bound, f"port {inner} of {service} is not published")
        return int(bound[0]["HostPort"])

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def containers(self, *options):
        ids = docker("ps", "--quiet", "--filter", f"label=com.docker.compose.project={self.project}", *options).split()
        return json.loads(docker("inspect", *ids)) if ids else []

    def container(self, service):
        """What Docker knows of the container of a service, running or not."""
        found = self.containers("--all", "--filter", f"label=com.docker.compose.service={service}")
        check(len(found) == 1, f"{len(found)} containers of {service} in project {self.project}")
        return found[0]

    def services(self, prefix):
        names = [one["Config"]["Labels"]["com.docker.compose.service"] for one in self.containers()]
        return sorted(name for name in names if name.startswith(prefix))

    def health(self):
        of_service = [(one["Config"]["Labels"]["com.docker.compose.service"], one["State"]) for one in self.containers()]
        return {service: state.get("Health", {}).get("Status") for service, state in of_service}

    def wait_until_healthy(self, count):
        healthy = ["healthy"] * count
        wait_until(lambda: list(self.health().values()) == healthy, START_SECONDS, lambda: f"not {count} are healthy: {self.health()}")

    def ask(self, method, path, body=None):
        """Status and answer of a request to the load balancer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def get(self, path):
        status, answer = self.ask("GET", path)
        check(status == 200, f"GET {path}: {status} {answer}")
        return answer

    def make_collection(self, name, dimensions):
        """A new and empty one, which every coordinator knows: others than the one that made it may take a moment."""
        path = f"/v1/collections/{name}"
        status, answer = self.ask("DELETE", path)
        check(status in (200, 404), f"the earlier {name} is not dropped: {status} {answer}")
        status, answer = self.ask("PUT", path, {"dimensions": dimensions, "metric": "l2"})
        check(status == 201, f"{name} was not made: {status} {answer}")
        # The load balancer asks them in turn.
        wait_until(lambda: all(self.ask("GET", f"{path}/namespaces/any")[0] == 200 for _ in range(9)), ANSWER_SECONDS,
                   lambda: f"not every coordinator knows {name}")

    def shards_of_groups(self):
        return {group["group"]: group["shards"] for group in self.get("/v1/admin/groups")["groups"]}


class OwnCluster(Cluster):
    """A project of the test's own. Nothing of a cluster that a user may have here is touched."""

    def __init__(self, name, files=(), environment=None):
        super().__init__(f"atoll-{name}-{os.getpid()}", free_port())
        self.logs = ROOT / "target" / f"{name}.log"
        own = {"COMPOSE_PROJECT_NAME": self.project, "ATOLL_TAG": "test", "ATOLL_PORT": str(self.port), "ATOLL_ADDRESS": "127.0.0.1"}
        self.environment = {**os.environ, **own, **(environment or {})}
        self.compose = [*find_compose()]
        for file in (ROOT / "deploy" / "compose.yaml", *files):
            self.compose += ["-f", str(file)]

    def run(self, *arguments):
        """Runs a command of Compose and gives what it printed."""
        ended = subprocess.run([*self.compose, *arguments], env=self.environment, stdin=subprocess.DEVNULL, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        check(ended.returncode == 0, f"{' '.join(arguments)} ended with {ended.returncode}:\n{ended.stdout}")
        return ended.stdout

    def build(self, *services):
        subprocess.run([ROOT / "deploy" / "test" / "base-images"], check=True)
        self.run("build", *services)

    def keep_logs(self):
        self.logs.parent.mkdir(exist_ok=True)
        with self.logs.open("w", encoding="utf-8") as logs:
            for command in (["ps"], ["logs", "--no-color", "--timestamps"]):
                subprocess.run([*self.compose, *EVERYTHING, *command], env=self.environment, stdout=logs, stderr=logs, check=False)

    def take_down(self):
        self.run(*EVERYTHING, "down", "--volumes", "--remove-orphans", "--timeout", "20")
