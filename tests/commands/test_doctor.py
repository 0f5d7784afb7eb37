"""doctor: each thing that usually goes wrong, made to go wrong, is named with its mend."""

from __future__ import annotations

import json
import os
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from discoverd.commands import probes
from discoverd.config.endpoints import parse_listen

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]

QUIET = ("--docker", "off", "--upstream", "off", "--json")


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert "Traceback" not in done.stderr
    return {found["check"]: found for found in json.loads(done.stdout)}


def test_all_is_well(run: Run) -> None:
    done = run("doctor", *QUIET)
    said = findings(done)
    assert done.returncode == 0, done.stdout
    assert {found["verdict"] for found in said.values()} == {"ok"}
    assert said["source static"]["found"] == "live, 3 instances"


def test_a_port_that_is_taken_names_its_holder(run: Run) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        done = run("doctor", *QUIET, "--listen", f"127.0.0.1:{port}", url="http://127.0.0.1:9")
    said = findings(done)
    assert done.returncode == 2  # the server was not reached
    assert f"(pid {os.getpid()})" in said[f"listen 127.0.0.1:{port}"]["found"]
    assert said[f"listen 127.0.0.1:{port}"]["mend"]
    assert said["server"]["verdict"] == "problem"


def test_an_address_that_is_not_ours(run: Run) -> None:
    said = findings(run("doctor", *QUIET, "--listen", "192.0.2.1:5300", url="http://127.0.0.1:9"))
    assert said["listen 192.0.2.1:5300"]["verdict"] == "problem"


def test_engines_and_agents_and_upstreams_that_are_not_there(run: Run, tmp_path: Path) -> None:
    missing, dead = tmp_path / "missing.sock", tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as closed:
        closed.bind(str(dead))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        done = run(
            "doctor", "--json", "--docker", f"unix://{missing}", "--docker", f"unix://{dead}",
            "--consul", f"http://127.0.0.1:{port}", "--upstream", f"127.0.0.1:{port}",
        )  # fmt: skip
    said = findings(done)
    assert done.returncode == 1
    for check in (
        f"docker {missing}",
        f"docker {dead}",
        f"consul http://127.0.0.1:{port}",
        f"upstream 127.0.0.1:{port}",
    ):
        assert said[check]["verdict"] == "problem", said
        assert said[check]["mend"]


def test_an_upstream_that_is_discoverd_itself_is_suspected(run: Run, server: Any) -> None:
    said = findings(run("doctor", "--json", "--docker", "off", "--upstream", f"127.0.0.1:{server.dns_port}"))
    found = said[f"upstream 127.0.0.1:{server.dns_port}"]
    assert found["verdict"] == "warning"
    assert "ask" in found["found"]


def test_a_wrong_configuration_is_status_2(run: Run) -> None:
    done = run("doctor", "--ttl", "five")
    assert (done.returncode, done.stdout) == (2, "")


def test_an_engine_that_speaks_something_else(tmp_path: Path) -> None:
    path = str(tmp_path / "engine.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def answer() -> None:
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"garbage\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ValueError, match="does not speak HTTP"):
            probes.engine(path, "/version")
        thread.join()


def test_bind_errors_are_those_of_udp_and_tcp() -> None:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as holder:
            holder.bind(("127.0.0.1", 0))
            if kind == socket.SOCK_STREAM:
                holder.listen()
            assert probes.bind_error(parse_listen(f"127.0.0.1:{holder.getsockname()[1]}"))
    assert probes.bind_error(parse_listen("127.0.0.1:0")) is None
