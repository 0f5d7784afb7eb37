"""services, explain, wait, watch: what they print, and their exit statuses."""

from __future__ import annotations

import json
import os
import pty
import resource
import signal
import socket
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from discoverd.commands.follow import State
from discoverd.commands.table import Table, clean, plain, pretty
from tests.commands.conftest import command, environment
from tests.real.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]
    Spawn = Callable[..., subprocess.Popen[str]]


def test_services_is_plain_where_no_terminal_is(run: Run) -> None:
    done = run("services")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["SERVICE", "INSTANCE", "HEALTH", "ADDRESSES", "PORTS", "SOURCE", "NAMES"]
    assert lines[1][:6] == [
        "db.shop",
        "static/db.shop/192.0.2.21",
        "healthy",
        "192.0.2.21",
        "5432/tcp",
        "static",
    ]
    assert [line[0] for line in lines[1:]] == ["db.shop", "web", "web"]
    assert "\x1b" not in done.stdout


def test_services_is_a_coloured_table_on_a_terminal(server: Server) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("services", "web"), env=environment(server.url, TERM="xterm"), stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # how Linux says that the other end is closed
        while data := os.read(ours, 4096):
            shown += data
    os.close(ours)
    assert process.wait(30) == 0
    assert b"\x1b[32mhealthy" in shown
    assert "─".encode() in shown


def test_services_as_json_is_what_the_api_says(run: Run, server: Server) -> None:
    assert json.loads(run("services", "--json").stdout) == server.api("/v1/services").json
    assert json.loads(run("services", "web", "--json").stdout) == server.api("/v1/services/web").json


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (("services", "nobody"), 1, "no service is called nobody"),
        (("explain", "web", "--type", "HUH"), 1, "'HUH' is no record type"),
        (("deregister", "nothing"), 1, "nothing is registered as nothing"),
        (("wait",), 2, "Missing argument 'NAME'"),
        (("wait", "web", "--count", "0"), 2, "Invalid value for '--count'"),
        (("register", "x"), 2, "Missing option '--address'"),
        (("services", "--url", "ftp://x"), 2, "--url ftp://x: expected http://host:port"),
    ],
)
def test_what_goes_wrong_is_one_line_and_a_status(
    run: Run, arguments: tuple[str, ...], status: int, line: str
) -> None:
    done = run(*arguments)
    assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr.startswith(f"discoverd: {line}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [("services",), ("watch",), ("wait", "web"), ("explain", "web"), ("deregister", "x")]
)
def test_no_server_is_status_2(run: Run, arguments: tuple[str, ...]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets it meanwhile
        done = run(*arguments, url=f"http://127.0.0.1:{free.getsockname()[1]}")
    assert done.returncode == 2
    assert "is `discoverd serve` running there?" in done.stderr
    assert done.stderr.count("\n") == 1


def test_explain_says_view_answer_and_instances(run: Run) -> None:
    done = run("explain", "web.docker", "--client", "203.0.113.9")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "web.docker A, asked by 203.0.113.9, beyond the host"
    assert lines[1].startswith("NOERROR")
    assert [line.split() for line in lines[2:4]] == [
        ["web.docker.", "5", "A", "192.0.2.11"],
        ["web.docker.", "5", "A", "192.0.2.12"],
    ]
    assert sum("served" in line for line in lines) == 2


@pytest.mark.parametrize(
    ("arguments", "status", "hint"),
    [
        (("wep.docker",), 1, "similar names exist: web.docker"),
        (("web.docker", "--type", "AAAA"), 0, "the instances have IPv4 addresses only"),
        (("example.com",), 0, "only names below docker are answered"),
    ],
)
def test_explain_hints_at_the_cause(run: Run, arguments: tuple[str, ...], status: int, hint: str) -> None:
    done = run("explain", *arguments)
    assert done.returncode == status
    assert f"hint: {hint}" in done.stdout


def test_wait_returns_when_there_are_enough(run: Run, server: Server, spawn: Spawn) -> None:
    assert run("wait", "web.docker", "--count", "2", "--healthy").returncode == 0
    waiting = spawn("wait", "late", "--count", "2", "--timeout", "50", "--json")
    for n in (1, 2):
        body = {"service": "late", "addresses": [f"10.0.0.{n}"]}
        assert waiting.poll() is None
        server.api(f"/v1/instances/late-{n}", "PUT", body)
    said, _ = waiting.communicate(timeout=50)
    assert waiting.returncode == 0
    assert sorted(i["id"] for i in json.loads(said)["instances"]) == ["late-1", "late-2"]


def test_wait_gives_up_with_status_1(run: Run) -> None:
    done = run("wait", "web", "--count", "3", "--timeout", "0.2")
    assert (done.returncode, done.stderr) == (1, "discoverd: web has 2 of 3 running instances after 0.2 s\n")


def test_watch_shows_what_is_there_and_what_happens(server: Server, spawn: Spawn) -> None:
    watching = spawn("watch", "live")
    everything = spawn("watch", "web", "--json")
    assert everything.stdout
    assert watching.stdout
    first = [json.loads(everything.stdout.readline()) for _ in range(2)]
    assert {one["change"] for one in first} == {"present"}
    body = {"service": "live", "addresses": ["10.0.0.9"], "ports": [80]}
    server.api("/v1/instances/one", "PUT", body)
    line = watching.stdout.readline()
    assert line.rstrip() in (
        "+ live  one  healthy  10.0.0.9 80/tcp  registered",
        "= live  one  healthy  10.0.0.9 80/tcp  registered",  # it was registered before the stream began
    )
    server.api("/v1/instances/one", "PUT", {**body, "ports": [81]})
    assert watching.stdout.readline() == "~ live  one  healthy  10.0.0.9 81/tcp  registered\n"
    server.api("/v1/instances/one", "DELETE")
    assert watching.stdout.readline() == "- live  one  healthy  10.0.0.9 81/tcp  registered\n"
    watching.send_signal(signal.SIGINT)
    assert watching.wait(20) == 130


def instance(ident: str, **more: object) -> dict[str, object]:
    return {"id": ident, "source": "s", "service": "web", "names": ["web.docker"], **more}


def test_a_second_snapshot_is_told_as_changes() -> None:
    state = State()
    services = [{"instances": [instance("a"), instance("b")]}]
    assert [s.sign for s in state.take("snapshot", {"domain": "docker", "services": services})] == ["=", "="]
    services = [{"instances": [instance("b", weight=2), instance("c")]}]
    seen = state.take("snapshot", {"domain": "docker", "services": services})
    assert [(s.sign, s.instance["id"]) for s in seen] == [("-", "a"), ("+", "c"), ("~", "b")]
    assert state.take("sources", {}) == []
    assert len(state.matching("web")) == len(state.matching("WEB.docker.")) == 2
    assert state.matching("we") == []


# -- tables ------------------------------------------------------------------------------------------

HOSTILE = "a\x1b[31m\nb\u202e"


def test_nothing_steers_the_terminal() -> None:
    table = Table(("NAME", "HEALTH"), [(HOSTILE, "healthy"), ("[bold]x[/bold]", "")])
    for shown in ("\n".join(plain(table)), "\n".join(pretty(table, 80, colour=False))):
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        assert "[bold]x[/bold]" in shown
    assert clean("plain ä") == "plain ä"


def test_every_cell_is_a_word_in_plain_tables() -> None:
    assert list(plain(Table(("A", "B", "C"), [("1", "", "3")]))) == ["A  B  C", "1  -  3"]


def test_two_thousand_instances_are_a_table_too(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    table = '[[service]]\nname = "s{n}"\naddresses = {addresses}\nport = 80\n'
    many = "".join(
        table.format(n=n, addresses=json.dumps([f"10.{n}.0.{i}" for i in range(1, 21)])) for n in range(100)
    )
    server = Server(tmp_path, config=many)
    server.wait_listening()
    env = environment(server.url)

    def spent(*arguments: str) -> tuple[float, int]:
        """Seconds of processor time, which other work of the machine does not stretch; lines printed."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run = subprocess.run(
            command(*arguments), env=env, capture_output=True, text=True, timeout=60, check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return used, len(run.stdout.splitlines())

    rounds = [(spent("services"), spent("services", "s1")) for _ in range(3)]
    assert {(many_lines, few_lines) for (_, many_lines), (_, few_lines) in rounds} == {(2001, 21)}
    many_seconds, few_seconds = (min(each[i][0] for each in rounds) for i in (0, 1))
    server.close()
    figure = f"{many_seconds:.2f} s, with 20 {few_seconds:.2f} s"
    record_property("measured processor time of discoverd services with 2,000 instances", figure)
    # a second on any machine that starts the interpreter with its modules in half of one
    assert many_seconds < 2 * few_seconds
