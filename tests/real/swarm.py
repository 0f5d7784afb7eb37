"""A real swarm on hosts of the tests' own, and what its manager says of it: the truth to compare with."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.real import images
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.real.engine import Engine

#: Every node asks an image's registry before it takes its own copy: one that refuses at once.
REGISTRY = "127.0.0.1:1"
#: Seconds; tasks are started by several parts of an engine that wait for each other.
PATIENCE = 120.0


class Swarm:
    """A manager's view. ``image`` is on every node that :meth:`load` was called for."""

    def __init__(self, manager: Engine, folder: Path) -> None:
        self.manager, self._folder = manager, folder
        self.image = f"{REGISTRY}/discoverd-test:{manager.session.id}"
        self._stacks: list[str] = []

    def load(self, engine: Engine) -> None:
        engine.load_image(self.image, images.busybox_rootfs(), 'CMD ["idle"]', "ENV PATH=/bin")

    def deploy(self, stack: str, services: str) -> None:
        """``docker stack deploy`` of a file with these services."""
        path = self._folder / f"{stack}.yml"
        path.write_text(f'version: "3.8"\n{services}'.replace("IMAGE", self.image))
        self._stacks.append(stack)
        self.manager.docker("stack", "deploy", "--resolve-image", "never", "-c", str(path), stack)

    def close(self) -> None:
        self.remove(*self._stacks)

    def remove(self, *stacks: str) -> None:
        """Until nothing of them is left: Docker 20.10 was seen to break off in the middle of it."""

        def gone() -> bool:
            for stack in stacks:
                self.manager.docker("stack", "rm", stack, check=False)
            return not self.manager.docker("service", "ls", "--quiet") and not self.containers("")

        until(gone, timeout=PATIENCE, message="the stacks are gone")

    def virtual_ip(self, service: str, network: str) -> str:
        (found,) = json.loads(self.manager.docker("service", "inspect", service))
        key = self.manager.docker("network", "inspect", "--format", "{{.Id}}", network)
        (address,) = [v["Addr"] for v in found["Endpoint"]["VirtualIPs"] if v["NetworkID"] == key]
        return str(address).partition("/")[0]

    def tasks(self, service: str) -> list[dict[str, Any]]:
        """Its tasks that are to run and do."""
        ids = self.manager.docker("service", "ps", "--quiet", "--no-trunc", service).split()
        # some may be gone by now, which is left out and said as an error
        said = self.manager.docker("inspect", *ids, check=False) if ids else "[]"
        found: list[dict[str, Any]] = json.loads(said)
        return [t for t in found if t["DesiredState"] == t["Status"]["State"] == "running"]

    def addresses(self, service: str, network: str) -> set[str]:
        """What these have on a network."""
        return {
            address.partition("/")[0]
            for task in self.tasks(service)
            for attached in task["NetworksAttachments"]
            if attached["Network"]["Spec"]["Name"] == network
            for address in attached["Addresses"]
        }

    def wait_tasks(self, service: str, count: int) -> None:
        until(
            lambda: len(self.tasks(service)) == count,
            timeout=PATIENCE,
            message=lambda: f"{count} of {service}: {self.manager.docker('service', 'ps', service)}",
        )

    def containers(self, service: str, engine: Engine | None = None) -> list[str]:
        """The running containers of its tasks on one node; all tasks' for ""."""
        label = "com.docker.swarm.service.name" + (f"={service}" if service else "")
        return (engine or self.manager).docker("ps", "--quiet", "--filter", f"label={label}").split()


@contextmanager
def swarm_of(manager: Engine, address: str, pool: str, folder: Path) -> Generator[Swarm]:
    """A new swarm with this manager; overlay networks are of ``pool``."""
    swarm = Swarm(manager, folder)
    swarm.load(manager)
    manager.docker("swarm", "init", "--advertise-addr", address, "--default-addr-pool", pool)
    try:
        yield swarm
        swarm.close()
    finally:
        manager.docker("swarm", "leave", "--force", check=False)
