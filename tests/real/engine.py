"""Docker Engines for tests: the one that is there, or else one that the tests start themselves."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

from tests.real import dockerd, images
from tests.real.debian import UnavailableError, need, which

if TYPE_CHECKING:
    from tests.real.dockerd import Dockerd
    from tests.real.session import Session

#: Seconds for one call of the docker client that makes or removes something.
CALL_TIMEOUT = 120.0
#: Seconds for an image to be pulled.
PULL_TIMEOUT = 60.0


class DockerError(AssertionError):
    """The docker client refused; the text is what it said."""


class Engine:
    """An engine that answers at ``url``. It may be anybody's: nothing here stops it or what others run."""

    def __init__(self, url: str, session: Session) -> None:
        self.url = url
        self.session = session
        self._image = ""

    def docker(
        self,
        *args: str,
        check: bool = True,
        input: bytes | str | None = None,  # noqa: A002 - as subprocess.run calls it
        timeout: float = CALL_TIMEOUT,
    ) -> str:
        """Run ``docker ARGS`` against this engine; its output, stripped. DockerError where it fails."""
        done = subprocess.run(
            [which("docker") or "docker", *args],
            env=self.env,
            input=input.encode() if isinstance(input, str) else input,
            stdin=None if input is not None else subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise DockerError(f"docker {' '.join(args)}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode(errors="replace").strip()

    @property
    def env(self) -> dict[str, str]:
        """An environment in which ``docker`` means this engine."""
        inherited = {key: value for key, value in os.environ.items() if key != "DOCKER_CONTEXT"}
        return inherited | {"DOCKER_HOST": self.url}

    @property
    def image(self) -> str:
        """A small image with all of busybox; its command waits, and ends at once when told to stop."""
        if not self._image:
            tag = f"discoverd-test:{self.session.id}"
            changes = ('CMD ["idle"]', "ENV PATH=/bin")
            self._image = self.load_image(tag, images.busybox_rootfs(), *changes)
        return self._image

    def load_image(self, tag: str, rootfs: bytes, *changes: str) -> str:
        """Make a file tree (a tar) the image ``tag``, with Dockerfile lines such as ``CMD [...]``.

        The image carries the run's label, and so do all images and containers made from it.
        """
        lines = (f"LABEL {self.session.label}", *changes)
        options = [word for line in lines for word in ("--change", line)]
        self.docker("import", *options, "-", tag, input=rootfs)
        return tag

    def has_image(self, tag: str) -> bool:
        return bool(self.docker("image", "inspect", "--format", "{{.Id}}", tag, check=False))

    def pull(self, tag: str) -> bool:
        """Whether the image could be pulled within a time that a registry in reach needs at most."""
        try:
            self.docker("pull", "--quiet", tag, timeout=PULL_TIMEOUT)
        except (DockerError, subprocess.TimeoutExpired):
            return False
        return True

    def spare_network(self) -> str:
        """The first three parts of a /24 that no network has yet, for one with addresses of its own."""
        name = f"discoverd-test-spare-{self.session.id}"
        subnet = "{{(index .IPAM.Config 0).Subnet}}"
        self.docker("network", "create", "--label", self.session.label, name)
        try:
            return self.docker("network", "inspect", "--format", subnet, name).rpartition(".")[0]
        finally:
            self.docker("network", "rm", name)

    def run(self, name: str, *options: str, command: tuple[str, ...] = (), image: str = "") -> str:
        """Start a container in the background; its full id."""
        named = ("--name", name, "--label", self.session.label)
        return self.docker("run", "--detach", *named, *options, image or self.image, *command)

    def inspect(self, *names: str) -> list[dict[str, Any]]:
        """What the engine itself says of these containers, as its API gives it."""
        found: list[dict[str, Any]] = json.loads(self.docker("container", "inspect", *names)) if names else []
        return found

    def remove_all(self, timeout: float = CALL_TIMEOUT) -> None:
        """Remove whatever in this engine carries the run's label; ``timeout`` seconds for each kind."""
        ours = f"label={self.session.label}"
        for kind, ids in (
            (("rm", "--force", "--volumes"), self.docker("ps", "--all", "--quiet", "--filter", ours)),
            (("network", "rm"), self.docker("network", "ls", "--quiet", "--filter", ours)),
            (("volume", "rm", "--force"), self.docker("volume", "ls", "--quiet", "--filter", ours)),
            (("rmi", "--force"), self.docker("images", "--all", "--quiet", "--filter", ours)),
        ):
            if ids:
                # Parallel removals by one client; what is gone already is no fault.
                self.docker(*kind, *dict.fromkeys(ids.split()), check=False, timeout=timeout)
        self._image = ""


class HostedEngine(Engine):
    """An engine of the tests' own, which they may stop, kill, freeze and start again."""

    def __init__(self, daemon: Dockerd, session: Session) -> None:
        super().__init__(daemon.url, session)
        self.daemon = daemon

    @property
    def pid(self) -> int:
        return self.daemon.pid

    def start(self) -> None:
        self.daemon.start()

    def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        self.daemon.stop()

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self.daemon.kill()

    def freeze(self) -> None:
        self.daemon.freeze()

    def thaw(self) -> None:
        self.daemon.thaw()

    def close(self) -> None:
        """The end of it, of its containers and its data, in whatever state it is."""
        if self.daemon.running:
            self.daemon.thaw()
            # So that it takes down its own bridges and cgroups; what it leaves is cleared without it.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.remove_all(timeout=20)
        self.daemon.close()


def find(session: Session) -> Engine:
    """The engine that answers already, or else one started for this run.

    Raises UnavailableError, whose text says why there is none.
    """
    if url := os.environ.get("DOCKER_HOST"):
        need("docker", "docker.io")
        if not dockerd.answers(url):
            raise UnavailableError(f"DOCKER_HOST={url} does not answer")
        return Engine(url, session)
    if found := _present(session):
        return found
    if os.geteuid() != 0:
        raise UnavailableError("no Docker Engine answers here; as root the tests install and start one")
    dockerd.prepare()
    if not which("docker"):
        need("docker", "docker-cli")  # Debian 13 has the client in a package of its own
    if found := _present(session):  # installing it may have started it
        return found
    engine = HostedEngine(dockerd.main_daemon(session), session)
    engine.start()
    return engine


def _present(session: Session) -> Engine | None:
    docker = which("docker")
    if not docker:
        return None
    # The user's context: /var/run/docker.sock, or wherever a rootless or desktop engine is.
    asked = subprocess.run(
        [docker, "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    url = asked.stdout.strip() or "unix:///var/run/docker.sock"
    return Engine(url, session) if dockerd.answers(url) else None


def another(session: Session, name: str, number: int, *options: str) -> HostedEngine:
    """A further engine with a network stack of its own, started; ``options`` are dockerd's.

    Raises UnavailableError where that cannot be.
    """
    if os.geteuid() != 0:
        raise UnavailableError("an engine that tests may stop needs root to start")
    engine = HostedEngine(dockerd.host_daemon(session, name, number, *options), session)
    engine.start()
    return engine
