"""The real ``docker compose``: the one that is there, or else Debian's plugin from the test cache."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.real.debian import fetch, need, which
from tests.real.engine import DockerError

if TYPE_CHECKING:
    from tests.real.engine import Engine

#: Debian 12's own package is Compose 1; this one is a static plugin that runs there as well.
PLUGIN_SUITE = "trixie"
PLUGIN = "usr/libexec/docker/cli-plugins/docker-compose"
#: Seconds for one compose command: a build, or hundreds of containers on a busy machine.
TIMEOUT = 900.0


def plugin_environment() -> dict[str, str]:
    """What to add to the environment so that ``docker compose`` works; nothing where it does already.

    Raises UnavailableError where the plugin is missing and cannot be fetched.
    """
    docker = need("docker", "docker.io")
    if subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0:
        return {}
    root = fetch("docker-compose", PLUGIN_SUITE)
    config = root.parent / "docker-config"
    link = config / "cli-plugins" / "docker-compose"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        fresh = link.with_name(f".{os.getpid()}")
        fresh.symlink_to(root / PLUGIN)
        fresh.replace(link)
    return {"DOCKER_CONFIG": str(config)}


def socket_of(engine: Engine) -> dict[str, str]:
    """The variable of the shipped files that says where the engine's socket is."""
    return {"DOCKER_SOCKET": engine.url.removeprefix("unix://")} if engine.url.startswith("unix://") else {}


def group_of(engine: Engine) -> dict[str, str]:
    """The variables by which the shipped files leave no way to any right."""
    path = Path(socket_of(engine).get("DOCKER_SOCKET", "/var/run/docker.sock"))
    return {"DOCKER_GROUP": str(path.stat().st_gid), "NO_NEW_PRIVILEGES": "true"}


class Compose:
    """Compose projects on one engine, all of which :meth:`close` removes."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.env = engine.env | plugin_environment()
        self._folder = folder
        self._projects: dict[str, tuple[Path, dict[str, str]]] = {}

    def up(self, project: str, source: str | Path, *args: str, env: dict[str, str] | None = None) -> None:
        """Start a project in the background from a file, or the text of one; ``args`` are those of ``up``.

        ``env`` is what the file's variables are replaced with, for later commands as well.
        """
        if isinstance(source, str):
            path = self._folder / f"{project}.yml"
            path.write_text(source)
        else:
            path = source
        self._projects[project] = path, env or {}
        try:
            self.run(project, "up", "--detach", "--quiet-pull", *args)
        except DockerError as error:
            said = self.run(project, "logs", "--tail", "50", check=False)
            raise DockerError(f"{error}\n{said}") from None

    def scale(self, project: str, **services: int) -> None:
        """Have so many containers of each service, and leave the others as they are."""
        scales = [word for name, count in services.items() for word in ("--scale", f"{name}={count}")]
        self.run(project, "up", "--detach", "--no-recreate", *scales, *services)

    def down(self, project: str) -> None:
        """Remove a project: containers, networks, volumes, and the images built for it."""
        self.run(project, "down", "--volumes", "--rmi", "local", "--remove-orphans", "--timeout", "1")
        del self._projects[project]

    def run(self, project: str, *args: str, check: bool = True) -> str:
        """``docker compose ARGS`` for a project that was started here; its output, stripped."""
        file, env = self._projects[project]
        done = subprocess.run(
            [which("docker") or "docker", "compose", "-p", project, "-f", str(file), *args],
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if check and done.returncode:
            raise DockerError(f"docker compose {' '.join(args)}: {done.stderr.strip()[-2000:]}")
        return done.stdout.strip()

    def containers(self, project: str, service: str = "") -> list[str]:
        """The ids of a project's containers, stopped ones included, as the engine lists them."""
        filters = [f"label=com.docker.compose.project={project}"]
        if service:
            filters.append(f"label=com.docker.compose.service={service}")
        options = [word for each in filters for word in ("--filter", each)]
        return self.engine.docker("ps", "--all", "--quiet", "--no-trunc", *options).split()

    def close(self) -> None:
        """Remove every project, the later ones first: they are on the networks of the earlier.

        A second time where the engine was still busy with an endpoint, or has forgotten whose it was: with
        many containers at once it sometimes does. A network on which it still sees one then, although no
        container is left, ends with the engine.
        """
        for project in reversed(list(self._projects)):
            try:
                self.down(project)
            except DockerError:
                self._let_go(project)
                try:
                    self.down(project)
                except DockerError:
                    if self.containers(project):
                        raise

    def _let_go(self, project: str) -> None:
        """Take the endpoints of containers that are gone off a project's networks."""
        docker, ours = self.engine.docker, f"label=com.docker.compose.project={project}"
        for network in docker("network", "ls", "--quiet", "--filter", ours).split():
            names = docker(
                "network", "inspect", "--format", "{{range .Containers}}{{.Name}} {{end}}", network
            )
            for name in names.split():
                docker("network", "disconnect", "--force", network, name, check=False)
