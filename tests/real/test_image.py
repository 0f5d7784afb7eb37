"""The shipped image, built from the Dockerfile: what it adds to its base, what is in it, how it starts."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING, Any, Self

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import discoverd
from tests.conftest import MEASURED
from tests.real.compose import Compose
from tests.real.conftest import TIMEOUT, or_left_out
from tests.real.debian import REPO, which
from tests.real.images import bases, provide
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.real.engine import Engine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(TIMEOUT)]

#: Bytes that the image may add to its base.
MOST = 80_000_000
#: Starts of each of the two, in turns.
STARTS = 5
#: How many starts of an interpreter that does nothing are a second: with nothing else to do, one takes
#: 30 ms of a processor, the engine's work included. A busy machine slows both down alike.
A_SECOND = 33
ALONE = ("--env", "DISCOVERD_DOCKER=off", "--env", "DISCOVERD_UPSTREAM=off", "--network", "none")
PROJECT = f"""
services:
  discoverd:
    build: "{REPO}"
    network_mode: none
    environment: {{DISCOVERD_DOCKER: "off", DISCOVERD_UPSTREAM: "off"}}
"""
#: What a package is called in metadata (PEP 503).
INSTALLED = """
import json, re
from importlib.metadata import distributions
found = [(re.sub("[-_.]+", "-", d.name).lower(), d.version) for d in distributions()]
print(json.dumps(sorted(found)))
"""
#: What the first process of a container has had of the processors, in seconds (/proc/PID/schedstat).
COMPUTED = """
from pathlib import Path
print(sum(int(each.read_text().split()[0]) for each in Path("/proc/1/task").glob("*/schedstat")) / 1e9)
"""


@dataclass(frozen=True)
class Image:
    """``container`` is one of it that runs."""

    engine: Engine
    name: str
    base: str
    container: str

    def python(self, program: str) -> Any:
        """What a program of the image's own interpreter prints as JSON."""
        return json.loads(self.engine.docker("exec", self.container, "python", "-c", program))

    def inspect(self, name: str) -> Any:
        return json.loads(self.engine.docker("image", "inspect", name))[0]


@pytest.fixture(scope="module")
def image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Generator[Image]:
    with or_left_out():
        compose = Compose(engine, tmp_path_factory.mktemp("image"))
        (base,) = bases((REPO / "Dockerfile").read_text())
        provide(engine, base)
    project = f"image{engine.session.id}"
    try:
        compose.up(project, PROJECT, "--build")
        (container,) = compose.containers(project)
        yield Image(engine, engine.inspect(container)[0]["Config"]["Image"], base, container)
    finally:
        compose.close()


def test_it_adds_little_to_its_base(image: Image, record_property: Callable[[str, object], None]) -> None:
    of_base, of_it = image.inspect(image.base), image.inspect(image.name)
    layers = of_base["RootFS"]["Layers"]
    assert of_it["RootFS"]["Layers"][: len(layers)] == layers
    added = of_it["Size"] - of_base["Size"]
    record_property(f"{MEASURED}MB that the image adds to its base", f"{added / 1e6:.1f}")
    assert 0 < added < MOST


def test_its_bill_of_materials_is_what_is_installed(image: Image) -> None:
    place = image.inspect(image.name)["Config"]["Labels"]["discoverd.sbom"]
    text = image.engine.docker("exec", image.container, "cat", place)
    bill = json.loads(text)
    version = SchemaVersion.from_version(bill["specVersion"])
    assert JsonStrictValidator(version).validate_str(text) is None
    subject = bill["metadata"]["component"]
    assert (subject["name"], subject["version"]) == ("discoverd", discoverd.__version__)

    listed = {
        re.sub("[-_.]+", "-", each["name"]).lower(): each["version"]
        for each in [subject, *bill["components"]]
    }
    assert listed == dict(image.python(INSTALLED))
    lock = (REPO / "requirements.lock").read_text()
    assert listed.items() - {("discoverd", discoverd.__version__)} == {
        (name, version) for name, version in re.findall(r"^([a-z0-9.-]+)==(\S+) \\$", lock, re.MULTILINE)
    }
    # dnslib's metadata names none
    assert {each["name"] for each in [subject, *bill["components"]] if not each.get("licenses")} <= {"dnslib"}
    # who needs what: from discoverd everything is reached
    needs = {each["ref"]: each.get("dependsOn", []) for each in bill["dependencies"]}
    reached, ahead = set[str](), [subject["bom-ref"]]
    while ahead:
        reference = ahead.pop()
        if reference not in reached:
            reached.add(reference)
            ahead += needs[reference]
    assert reached == {each["bom-ref"] for each in [subject, *bill["components"]]}


def test_it_becomes_healthy(image: Image) -> None:
    def health() -> str:
        state: str = image.engine.inspect(image.container)[0]["State"]["Health"]["Status"]
        return state

    until(
        lambda: health() == "healthy",
        timeout=90,
        message=lambda: image.engine.docker("logs", image.container),
    )


def test_it_starts_in_a_second(image: Image, record_property: Callable[[str, object], None]) -> None:
    """discoverd until it listens, beside its interpreter that only says so, in turns."""
    says = "import time; print('listening on nothing'); time.sleep(600)"
    bare = ("--entrypoint", "python", image.name, "-c", says)
    started: dict[str, list[Start]] = {"discoverd": [], "python -c pass": []}
    for _ in range(STARTS):
        started["python -c pass"].append(Start.of(image.engine, *bare))
        started["discoverd"].append(Start.of(image.engine, image.name))
    ratios = {}
    for what in ("waited", "computed"):
        whole, least = [median(getattr(start, what) for start in starts) for starts in started.values()]
        ratios[what] = whole / least
        record_property(
            f"{MEASURED}seconds {what} until the image's discoverd listens; of python -c pass; ratio",
            f"{whole:.2f}; {least:.3f}; {whole / least:.0f}",
        )
    assert ratios["computed"] < A_SECOND


@dataclass(frozen=True)
class Start:
    """Seconds until a container says that it listens, and seconds of processor time that it took for it."""

    waited: float
    computed: float

    @classmethod
    def of(cls, engine: Engine, *command: str) -> Self:
        container = engine.docker("run", "--detach", "--label", engine.session.label, *ALONE, *command)
        said: list[str] = []

        def listens() -> bool:
            said[:] = [line for line in log_of(engine, container).splitlines() if "listening on" in line]
            return bool(said)

        try:
            until(listens, timeout=90, message=lambda: log_of(engine, container), interval=0.1)
            computed = float(engine.docker("exec", container, "python", "-c", COMPUTED))
            started = engine.inspect(container)[0]["State"]["StartedAt"]
            return cls(_when(said[0].split()[0]) - _when(started), computed)
        finally:
            engine.docker("rm", "--force", "--volumes", container)


def log_of(engine: Engine, container: str) -> str:
    """Both its outputs, each line with the time at which the engine had it."""
    done = subprocess.run(
        [which("docker") or "docker", "logs", "--timestamps", container],
        env=engine.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def _when(text: str) -> float:
    """The engine's time (RFC 3339, nanoseconds) in seconds."""
    return datetime.fromisoformat(re.sub(r"(\.\d{1,6})\d*Z", r"\1+00:00", text)).timestamp()
