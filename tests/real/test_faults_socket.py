"""Another engine's socket in the place of the one that was followed: never a mixture of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.real.conftest import Containers
    from tests.real.engine import Engine, HostedEngine
    from tests.real.server import Server

pytestmark = pytest.mark.docker

#: Seconds, the least that can be configured.
RESYNC = 5


def address(engine: Engine, name: str) -> str:
    given: str = engine.inspect(name)[0]["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    return given


@pytest.mark.parametrize("before", ["lives on", "is killed"])
def test_a_socket_is_replaced(
    engine: Engine,
    containers: Containers,
    own_engine: HostedEngine,
    discoverd: Callable[..., Server],
    unique: Callable[[str], str],
    tmp_path: Path,
    before: str,
) -> None:
    here, there, further = unique("here"), unique("there"), unique("further")
    own_engine.run(here)
    containers.run(there)
    path = tmp_path / "docker.sock"
    path.symlink_to(own_engine.url.removeprefix("unix://"))
    config = f'[[docker]]\nurl = "unix://{path}"\nresync_seconds = {RESYNC}\n'
    server = discoverd(config=config, env={"DISCOVERD_DOCKER": ""})
    server.wait_answer(f"{here}.docker", {address(own_engine, here)})

    fresh = tmp_path / "fresh.sock"
    fresh.symlink_to(engine.url.removeprefix("unix://"))
    if before == "is killed":
        own_engine.kill()
    fresh.rename(path)
    if before == "lives on":
        own_engine.run(further)  # the other engine, asked for it, would know nothing of it
    server.wait_answer(f"{there}.docker", {address(engine, there)}, timeout=60)
    until(lambda: server.dig(f"{here}.docker").nodata, message="the engine before is followed no more")
    server.wait_source("live")
    late = unique("late")
    containers.run(late)
    server.wait_answer(f"{late}.docker", {address(engine, late)})
    assert server.dig(f"{late}.docker").addresses == {address(engine, late)}
    assert not server.dig(f"{further}.docker").answer
