"""An engine behind ``ssh://``: a real sshd, a real key, a real engine."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from discoverd.sources.docker.fault import EngineAwayError
from discoverd.sources.docker.tunnel import Tunnel
from tests.real.conftest import or_left_out
from tests.real.debian import which
from tests.real.sshd import Sshd, running
from tests.real.test_convergence import addresses
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.real.conftest import Containers
    from tests.real.engine import Engine
    from tests.real.server import Server


@pytest.fixture
def sshd(tmp_path: Path) -> Generator[Sshd]:
    folder = tmp_path / "ssh"
    folder.mkdir()
    with or_left_out():
        made = running(folder)
        started = made.__enter__()
    yield started
    made.__exit__(None, None, None)


@pytest.fixture
def at(engine: Engine) -> str:
    """The engine's socket."""
    if not engine.url.startswith("unix://"):
        pytest.skip("the engine has no socket here")
    return engine.url.removeprefix("unix://")


def forwarding(sshd: Sshd) -> list[int]:
    """The ssh processes that lead to this sshd."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"ssh") and str(sshd.port).encode() in words and b"-L" in words:
            found.append(int(place.parent.name))
    return found


def test_it_is_followed_cut_off_and_followed_again(
    sshd: Sshd,
    at: str,
    containers: Containers,
    unique: Callable[[str], str],
    discoverd: Callable[..., Server],
) -> None:
    folder = containers.engine.session.root
    server = discoverd(docker=sshd.url(at), env={"PATH": sshd.path, "TMPDIR": str(folder)})
    server.wait_source("live", timeout=60)
    assert len(list(folder.glob("discoverd-ssh-*"))) == 1
    one, two = unique("one"), unique("two")
    first = addresses(containers.engine, containers.run(one))
    server.wait_answer(f"{one}.docker", set(first))

    sshd.stop()
    for pid in forwarding(sshd):
        os.kill(pid, signal.SIGKILL)
    server.wait_source("stale")
    reply = server.dig(f"{one}.docker")
    assert reply.addresses == set(first)
    assert "nothing listens there; is sshd running, and the port right?" in until(
        lambda: text if "sshd" in (text := str(server.source()["last_error"])) else "",
        message=lambda: str(server.source()),
    )
    second = addresses(containers.engine, containers.run(two))
    sshd.start()
    server.wait_source("live", timeout=60)
    server.wait_answer(f"{two}.docker", set(second))
    # killed, it leaves no ssh behind
    assert forwarding(sshd)
    server.process.kill()
    server.process.wait()
    until(lambda: not forwarding(sshd), message=lambda: f"ssh ends: {forwarding(sshd)}")
    until(lambda: not list(folder.glob("discoverd-ssh-*")), message="its folder goes")


def refusal(sshd: Sshd, monkeypatch: pytest.MonkeyPatch, socket: str) -> str:
    monkeypatch.setenv("PATH", sshd.path)
    with pytest.raises(EngineAwayError) as caught:
        Tunnel(sshd.url(socket)).close()
    said = str(caught.value)
    assert "\n" not in said
    return said.removeprefix(sshd.url(socket))


def test_what_keeps_it_out_is_one_line(sshd: Sshd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder, socket = tmp_path / "ssh", "/run/docker.sock"
    known = (folder / "known_hosts").read_text()
    (folder / "known_hosts").write_text("")
    assert refusal(sshd, monkeypatch, socket).startswith(": its host key is not known here; check it")
    (folder / "known_hosts").write_text(known)
    keys = (folder / "authorized_keys").read_text()
    (folder / "authorized_keys").write_text("")
    assert refusal(sshd, monkeypatch, socket).startswith(": it lets none of the keys at hand in; `ssh ")
    (folder / "authorized_keys").write_text(keys)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EngineAwayError, match="there is no ssh on this machine: install openssh-client"):
        Tunnel(sshd.url(socket))


def test_no_engine_at_its_end(sshd: Sshd, discoverd: Callable[..., Server]) -> None:
    server = discoverd(docker=sshd.url("/run/no-engine.sock"), env={"PATH": sshd.path})
    said = until(lambda: str(server.source().get("last_error") or ""), message=lambda: server.log_text)
    assert "there is no engine at /run/no-engine.sock, or " in said
    assert "may not open it (group docker)" in said


def test_dockers_own_client_goes_the_same_way(sshd: Sshd, at: str) -> None:
    """The address means for us what it means for docker: it asks the engine for its version."""
    docker = which("docker")
    assert docker
    asked = subprocess.run(
        [docker, "-H", sshd.url(at), "version", "--format", "{{.Server.Version}}"],
        env=os.environ | {"PATH": sshd.path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "extra path after the host" in asked.stderr:
        pytest.skip("this version of Docker's client takes no socket's path in ssh://")
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.strip()
