"""discoverd inside a container: this tree and this interpreter, mounted into an image of the tests."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.real.clients import PYTHON, PYTHON_ENV
from tests.real.debian import which
from tests.wait import until

if TYPE_CHECKING:
    from tests.real.clients import Clients
    from tests.real.conftest import Containers

SOCKET = "/var/run/docker.sock"


class Contained:
    """A container that serves on port 53 of its addresses; ``options`` are those of ``docker run``."""

    def __init__(
        self,
        made: Containers,
        clients: Clients,
        name: str,
        *options: str,
        flags: tuple[str, ...] = (),
        watching: bool = False,
    ) -> None:
        """``watching`` its own engine; ``flags`` of ``discoverd serve``."""
        self.name, self._engine = name, made.engine
        env = PYTHON_ENV | {"DISCOVERD_STATE_DIR": "off", "DISCOVERD_HTTP": "off"}
        words = [word for key, value in env.items() for word in ("--env", f"{key}={value}")]
        if watching:
            words += ["--volume", f"{made.engine.url.removeprefix('unix://')}:{SOCKET}"]
        serve = (PYTHON, "-m", "discoverd", "serve", "--listen", ":53", "--docker")
        made.run(
            name,
            *(*clients.options, *words, *options),
            command=(*serve, f"unix://{SOCKET}" if watching else "off", *flags),
            image=clients.image(made.engine),
        )
        until(lambda: "listening on dns://" in self.log, timeout=90, message=lambda: self.log)

    @property
    def log(self) -> str:
        """What it has said so far, on either output."""
        done = subprocess.run(
            [which("docker") or "docker", "logs", self.name],
            env=self._engine.env,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr
