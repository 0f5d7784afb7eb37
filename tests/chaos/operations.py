"""What people and orchestrators do to containers and services, at random. Each says what it did.

What an engine or agent refuses is no fault here: it may just be killed, and the truth is asked afterwards.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.chaos.world import NETWORKS, SERVICES

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.chaos.truth import Container
    from tests.chaos.world import World

CONTAINERS_MOST = 14
SERVICE_COUNT = 4
#: Seconds that the engine may take for one call, frozen for a part of it.
PATIENCE = 90.0
CHECK = ("--health-cmd", "test -e /tmp/ok", "--health-interval", "2s", "--health-retries", "1")


class Operations:
    """Chooses by ``pick``; what there is to choose from is what the engine said last."""

    def __init__(self, world: World, pick: Random) -> None:
        self._world, self._pick = world, pick
        self._count = 0
        self._taken: set[str] = set()

    def begin_step(self) -> None:
        """What is done at a time is done to different containers: an engine whose ``exec`` meets a
        ``pause`` of the same container hangs with it for ever (seen with 20.10).
        """
        self._taken.clear()

    def of_engine(self) -> Callable[[], str]:
        """One thing to do with the engine, chosen now and done when called."""
        containers = [c for c in self._world.containers if c.id not in self._taken]
        running = [c for c in containers if c.runs]
        paused = [c for c in containers if c.status == "paused"]
        stopped = [c for c in containers if c.status in ("exited", "created")]
        choices: list[tuple[int, Callable[[], Callable[[], str]]]] = [(2, lambda: self._run(1))]
        if len(containers) < CONTAINERS_MOST:
            choices += [(6, lambda: self._run(1)), (2, lambda: self._run(3))]
        elif containers:
            choices = [(9, lambda: self._on(containers, "rm", "--force"))]
        if running:
            for weight, words in (
                (3, ("stop",)),
                (2, ("kill",)),
                (2, ("restart",)),
                (2, ("pause",)),
                (1, ("kill", "--signal", "HUP")),
                (3, ("rm", "--force")),
            ):
                choices.append((weight, lambda words=words: self._on(running, *words)))  # type: ignore[misc]
            choices += [
                (2, lambda: self._rename(running)),
                (2, lambda: self._attach(running)),
                (2, lambda: self._health(running)),
                (1, lambda: self._scale_down(running)),
            ]
        if paused:
            choices.append((3, lambda: self._on(paused, "unpause")))
        if stopped:
            choices += [(5, lambda: self._on(stopped, "start")), (2, lambda: self._on(stopped, "rm"))]
        (chosen,) = self._pick.choices([c for _, c in choices], [w for w, _ in choices])
        return chosen()

    def of_consul(self) -> Callable[[], str]:
        """One thing to do with Consul's agent."""
        pick, known = self._pick, sorted(self._world.registered)
        if known and pick.random() < 0.6:
            ident = pick.choice(known)
            path = pick.choice(
                (
                    f"service/deregister/{ident}",
                    f"check/fail/check-{ident}",
                    f"check/pass/check-{ident}",
                    f"service/maintenance/{ident}?enable=true",
                    f"service/maintenance/{ident}?enable=false",
                )
            )
            return lambda: self._ask_consul(path)
        service = pick.choice(SERVICES)
        ident = f"{service}-{pick.randrange(4)}"
        body = {
            "ID": ident,
            "Name": service,
            "Address": f"10.98.{SERVICES.index(service)}.{int(ident[-1]) + 1}",
            "Port": 80,
            "Check": {
                "CheckID": f"check-{ident}",
                "TTL": "1h",
                "Status": pick.choice(("passing", "critical")),
            },
        }
        return lambda: self._ask_consul("service/register?replace-existing-checks=true", body)

    def _ask_consul(self, path: str, body: object = None) -> str:
        what = f"consul: {path} {body or ''}"
        try:
            return f"{what}: {self._world.consul.api(f'/v1/agent/{path}', 'PUT', body).status}"
        except OSError as error:
            return f"{what}: {error}"

    # -- containers -----------------------------------------------------------------------

    def _docker(self, *words: str) -> Callable[[], str]:
        def act() -> str:
            try:
                self._world.engine.docker(*words, timeout=PATIENCE)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                return f"docker {' '.join(words)}: {str(error)[-120:]}"
            return f"docker {' '.join(words)}"

        return act

    def _run(self, count: int) -> Callable[[], str]:
        """One container more of a service, or several at once."""
        pick, engine = self._pick, self._world.engine
        number = pick.randrange(SERVICE_COUNT)
        network = pick.choice(("bridge", *NETWORKS))
        options = ["--label", f"discoverd.service=s{number}", "--stop-timeout", "1", "--network", network]
        options += ["--restart", pick.choice(("no", "always"))]
        if network != "bridge" and pick.random() < 0.5:
            options += ["--network-alias", f"al{number}"]
        if pick.random() < 0.15:
            options += CHECK
        acts = []
        for _ in range(count):
            self._count += 1
            named = ("--name", f"s{number}-{self._count}", "--label", engine.session.label)
            acts.append(self._docker("run", "--detach", *named, *options, engine.image))
        return lambda: "; ".join(act() for act in acts)

    def _on(self, those: list[Container], *words: str) -> Callable[[], str]:
        return self._docker(*words, self._take(those).id)

    def _take(self, those: list[Container]) -> Container:
        taken = self._pick.choice(those)
        self._taken.add(taken.id)
        return taken

    def _rename(self, those: list[Container]) -> Callable[[], str]:
        self._count += 1
        return self._docker("rename", self._take(those).id, f"renamed-{self._count}")

    def _attach(self, those: list[Container]) -> Callable[[], str]:
        one, network = self._take(those), self._pick.choice(NETWORKS)
        words = ("disconnect",) if network in one.networks else ("connect", "--alias", "further")
        return self._docker("network", *words, network, one.id)

    def _health(self, those: list[Container]) -> Callable[[], str]:
        command = self._pick.choice(("touch", "rm"))
        return self._docker("exec", self._take(those).id, command, "/tmp/ok")

    def _scale_down(self, those: list[Container]) -> Callable[[], str]:
        """All but one of a service, at once."""
        service = self._pick.choice(those).service
        surplus = [c.id for c in those if c.service == service][1:]
        self._taken.update(surplus)
        return self._docker("rm", "--force", *surplus) if surplus else self._on(those, "restart")
