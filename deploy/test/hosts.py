"""Containers of a cluster as hosts that can be stopped, killed, paused, and cut off from each other."""

import shutil
import subprocess
from urllib.parse import urlsplit

from checks import check, wait_until
from cluster import docker

BACK_SECONDS = 60


class Hosts:
    def __init__(self, cluster):
        self.cluster = cluster
        self.coordinators = cluster.services("coordinator")
        self.workers = cluster.services("worker")

    def name(self, service):
        return self.cluster.container(service)["Name"].lstrip("/")

    def do(self, command, *services):
        """`docker stop`, `kill`, `start`, `pause` or `unpause`."""
        docker(command, *[self.name(service) for service in services])

    def leader(self):
        """The coordinator that leads."""
        told = self.cluster.get("/v1/admin/cluster")
        check(told["leader"], "nobody leads")
        return next(urlsplit(one["http"]).hostname for one in told["coordinators"] if one["id"] == told["leader"])

    def serves(self, service):
        """Whether it does its work, by its own account: a coordinator all of it, for it is not ready while a worker is away."""
        asked = ("7800", "/healthz", '"postgres_up":true') if service in self.workers else ("7700", "/readyz", '"ready":true')
        return docker("exec", self.name(service), "healthy", *asked, wanted=False)

    def wait_until_serving(self, *services):
        for service in services:
            wait_until(lambda: self.serves(service), BACK_SECONDS, lambda: f"{service} does not serve", every=0.1)

    def kill_postgres(self, worker):
        """At once, so that it has to recover. The agent lives."""
        docker("exec", self.name(worker), "sh", "-c", 'kill -QUIT "$(head -n 1 /var/lib/atoll/postgres/postmaster.pid)"')

    @property
    def network(self):
        return f"{self.cluster.project}_cluster"

    def leave_network(self, service):
        docker("network", "disconnect", self.network, self.name(service))

    def join_network(self, service):
        docker("network", "connect", "--alias", service, self.network, self.name(service))

    def address(self, service):
        return self.cluster.container(service)["NetworkSettings"]["Networks"][self.network]["IPAddress"]

    def run_in_network_of(self, service, *command):
        """Runs a program of this machine in the network of a container, and gives how it ended."""
        process = str(self.cluster.container(service)["State"]["Pid"])
        return subprocess.run(["nsenter", "--target", process, "--net", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)

    def in_network_of(self, service, *command):
        ended = self.run_in_network_of(service, *command)
        check(ended.returncode == 0, f"{' '.join(command)} in the network of {service}: {ended.stdout}")

    def can(self, service, *command):
        """Whether that can be done here: it takes Linux, root, and what the kernel has."""
        return bool(shutil.which("nsenter") and shutil.which(command[0])) and self.run_in_network_of(service, *command).returncode == 0

    def drop(self, service, *rules):
        for rule in rules:
            self.in_network_of(service, "iptables", "--append", *rule, "--jump", "DROP")

    def drop_nothing(self, service):
        for chain in ("INPUT", "OUTPUT"):
            self.in_network_of(service, "iptables", "--flush", chain)
