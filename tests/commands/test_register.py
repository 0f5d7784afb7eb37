"""register and deregister, and the life of a wrapped command."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from discoverd.commands.register import default_id
from tests.wait import until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.real.server import Server

    Run = Callable[..., subprocess.CompletedProcess[str]]
    Spawn = Callable[..., subprocess.Popen[str]]


def known(server: Server, service: str) -> list[str]:
    said = server.api(f"/v1/services/{service}").json
    return [i["id"] for s in said.get("services", []) for i in s["instances"]]


def test_register_and_deregister(run: Run, server: Server) -> None:
    done = run(
        "register", "pay", "--address", "10.0.0.5", "--port", "http=80", "--port", "9000", "--tag", "blue",
        "--meta", "a=b=c", "--scope", "shop", "--lease", "60", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["id"] == "pay.shop-10.0.0.5-80"
    assert (said["lease"], said["meta"], said["tags"]) == (60, {"a": "b=c"}, ["blue"])
    assert [(p["name"], p["port"]) for p in said["ports"]] == [("http", 80), ("", 9000)]
    assert known(server, "pay") == ["pay.shop-10.0.0.5-80"]
    assert run("deregister", "pay.shop-10.0.0.5-80").returncode == 0
    assert run("deregister", "pay.shop-10.0.0.5-80").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("--address", "nowhere"), "addresses[0]"),
        (("--address", "10.0.0.1", "--port", "99999"), "ports[0]"),
        (("--address", "10.0.0.1", "--meta", "=x"), "meta"),
        (("--address", "10.0.0.1", "--lease", "-5"), "lease"),
    ],
)
def test_what_the_server_refuses_is_told_in_its_words(
    run: Run, arguments: tuple[str, ...], field: str
) -> None:
    done = run("register", "x", *arguments)
    assert done.returncode == 1
    assert field in done.stderr
    assert "expected" in done.stderr
    assert done.stderr.count("\n") == 1


def test_default_ids_name_the_endpoint() -> None:
    assert default_id("web", "", "10.0.0.1", None) == "web-10.0.0.1"
    assert default_id("web", "shop", "10.0.0.1", "http=80/tcp") == "web.shop-10.0.0.1-80"


def test_it_is_registered_while_the_command_runs(server: Server, spawn: Spawn) -> None:
    wrapped = spawn(
        "register", "job", "--address", "10.0.0.6", "--id", "job", "--", "sh", "-c", "echo on; exec sleep 50"
    )
    assert wrapped.stdout
    # the command starts when the registration is there
    assert wrapped.stdout.readline() == "on\n"
    assert known(server, "job") == ["job"]
    wrapped.terminate()
    assert wrapped.wait(20) == 128 + signal.SIGTERM
    assert known(server, "job") == []


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
)
def test_its_exit_status_is_the_commands(run: Run, server: Server, script: str, status: int) -> None:
    done = run("register", "job", "--address", "10.0.0.6", "--", "sh", "-c", script)
    assert done.returncode == status, done.stderr
    assert known(server, "job") == []


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT]
)
def test_signals_are_passed_on(spawn: Spawn, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got {name}; exit 3' {name}; echo ready; while :; do sleep 0.05; done"
    wrapped = spawn("register", "job", "--address", "10.0.0.6", "--", "sh", "-c", script)
    assert wrapped.stdout
    assert wrapped.stdout.readline() == "ready\n"
    wrapped.send_signal(number)
    assert wrapped.stdout.readline() == f"got {name}\n"
    assert wrapped.wait(20) == 3


def test_the_command_sees_signals_as_if_it_were_not_wrapped(run: Run) -> None:
    done = run(
        "register", "job", "--address", "10.0.0.6", "--", "perl", "-e", "kill PIPE => $$; print 'alive'"
    )
    assert (done.returncode, done.stdout) == (128 + signal.SIGPIPE, "")


def test_a_command_that_cannot_be_started_leaves_nothing_behind(run: Run, server: Server) -> None:
    done = run("register", "job", "--address", "10.0.0.6", "--", "/nowhere/at-all")
    assert done.returncode == 127
    assert done.stderr == "discoverd: /nowhere/at-all: No such file or directory\n"
    assert known(server, "job") == []


def test_the_command_is_not_started_when_the_server_says_no(run: Run) -> None:
    done = run("register", "job", "--address", "nowhere", "--", "echo", "started")
    assert (done.returncode, done.stdout) == (1, "")


def test_a_lease_outlives_several_of_its_lengths_and_a_loss(server: Server, spawn: Spawn) -> None:
    """It is renewed; and what was removed behind its back is registered again at the next renewal."""
    wrapped = spawn(
        "register", "job", "--address", "10.0.0.6", "--id", "kept", "--lease", "1", "--", "sleep", "50"
    )
    other = {"service": "other", "addresses": ["10.0.0.7"], "lease": 3}
    server.api("/v1/instances/measure", "PUT", other)
    until(lambda: known(server, "job") == ["kept"])
    until(lambda: known(server, "other") == [], timeout=30)  # three lengths of the lease
    assert known(server, "job") == ["kept"]
    server.api("/v1/instances/kept", "DELETE")
    until(lambda: known(server, "job") == ["kept"])
    wrapped.terminate()
    assert wrapped.wait(20) == 143


def test_a_wrapper_that_is_killed_is_forgotten(server: Server, spawn: Spawn) -> None:
    wrapped = spawn("register", "job", "--address", "10.0.0.6", "--lease", "1", "--", "sleep", "50")
    until(lambda: known(server, "job"))
    wrapped.kill()
    until(lambda: not known(server, "job"))
