"""Podman's service as an engine of the tests' own: Docker's API, its own data and network stack."""

from __future__ import annotations

import os
import resource
import subprocess
from typing import TYPE_CHECKING

from tests.real import dockerd
from tests.real.debian import UnavailableError, need
from tests.real.dockerd import Dockerd
from tests.real.engine import HostedEngine
from tests.real.netns import Namespace
from tests.real.session import bridge
from tests.wait import until

if TYPE_CHECKING:
    from tests.real.session import Session

#: Nothing of the machine's own Podman: neither its locks nor its networks, nor systemd's cgroups.
CONFIG = """
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "{home}/tmp"
[containers]
# by default it asks for more than some machines give even to root
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
[network]
network_config_dir = "{home}/networks"
"""


class PodmanService(Dockerd):
    """``podman system service`` in a network namespace; told to stop, its containers run on."""

    def start(self) -> None:
        """Start it and wait until its API answers. UnavailableError with its last words where it ends."""
        assert not self.running, "the service runs already"
        assert self.namespace
        files, processes = (
            min(resource.getrlimit(which)[1], 4096)
            for which in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC)
        )
        config = self.home / "containers.conf"
        config.write_text(CONFIG.format(home=self.home, files=files, processes=processes))
        folders = ("--root", f"{self.home}/data", "--runroot", f"{self.home}/run")
        command = [need("podman", "podman"), *folders, "system", "service", "--time=0", self.url]
        with self.log.open("a") as log:
            process = self._process = subprocess.Popen(
                [*self.namespace.enter, *command],
                env=os.environ | {"CONTAINERS_CONF": str(config)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        up = until(
            lambda: dockerd.answers(self.url) or process.poll() is not None,
            timeout=dockerd.START_TIMEOUT,
            interval=0.1,
            message=lambda: f"podman answers; its log ends: {self._last_words()}",
        )
        if not up or process.poll() is not None:
            raise UnavailableError(f"no Podman can run here: it ended: {self._last_words()}")

    def network(self, name: str) -> None:
        """Make one without Podman's own DNS server, which would take port 53 of its gateway."""
        command = [need("podman", "podman"), "--url", self.url, "network", "create", "--disable-dns", name]
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)


def podman_host(session: Session, number: int) -> HostedEngine:
    """A further host with Podman for an engine, started; :class:`HostedEngine` has it like any other.

    Raises UnavailableError where that cannot be.
    """
    if os.geteuid() != 0:
        raise UnavailableError("Podman with networks of its own needs root")
    dockerd.prepare()
    need("podman", "podman")
    need("docker", "docker.io")
    slot = session.slot
    namespace = Namespace(f"{bridge(slot)}v{number}", f"10.{slot}.{number}")
    engine = HostedEngine(PodmanService(session.root / f"podman{number}", namespace=namespace), session)
    engine.start()
    return engine
