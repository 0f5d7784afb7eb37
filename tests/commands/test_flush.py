"""flush, beside a real server whose answers are kept; and what every command says with --json."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.commands.conftest import command, environment
from tests.real.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]

THEIRS = """
domains = ["corp.example"]
ttl = 300
[[service]]
name = "wiki"
addresses = ["192.0.2.31"]
[[service]]
name = "mail"
addresses = ["192.0.2.32"]
"""


@pytest.fixture
def asked(tmp_path: Path) -> Generator[Server]:
    """A server that keeps what another one, which is another's name server to it, has answered."""
    theirs = Server(tmp_path / "theirs", config=THEIRS)
    theirs.wait_listening()
    table = f'http.token = "s3cret"\n[forward.zones]\n"corp.example" = ["127.0.0.1:{theirs.dns_port}"]\n'
    ours = Server(tmp_path / "ours", config=table)
    ours.wait_listening()
    yield ours
    ours.close()
    theirs.close()


def flush(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("flush", *arguments), env=environment(server.url), capture_output=True, text=True, check=False
    )


def kept(server: Server) -> int:
    """How many answers are kept once both names were asked for."""
    for name, address in (("wiki", "192.0.2.31"), ("mail", "192.0.2.32")):
        assert server.dig(f"{name}.corp.example").addresses == {address}
    metrics = dict(line.rsplit(" ", 1) for line in server.api("/metrics").text.splitlines())
    return round(float(metrics["discoverd_cache_entries"]))


def test_what_is_kept_is_forgotten_by_name_or_whole(asked: Server) -> None:
    assert kept(asked) == 2
    refused = flush(asked)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "token" in refused.stderr

    done = flush(asked, "wiki.corp.example", "--token", "s3cret")
    assert (done.returncode, done.stdout) == (0, "1 answer is forgotten\n"), done.stderr
    assert flush(asked, "wiki.corp.example", "--token", "s3cret", "--json").stdout == '{\n  "flushed": 0\n}\n'
    assert kept(asked) == 2
    assert json.loads(flush(asked, "corp.example", "--token", "s3cret", "--json").stdout) == {"flushed": 2}
    assert kept(asked) == 2
    assert json.loads(flush(asked, "--token", "s3cret", "--json").stdout) == {"flushed": 2}


def test_what_is_no_name_is_refused(asked: Server) -> None:
    done = flush(asked, "no name", "--token", "s3cret")
    assert done.returncode == 1
    assert "no DNS name" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (("services",), "services"),
        (("explain", "web"), "answers"),
        (("wait", "web"), "met"),
        (("register", "json", "--address", "192.0.2.9", "--id", "json"), "id"),
        (("deregister", "json"), "id"),
        (("flush",), "flushed"),
        (("check",), "listen"),
    ],
)
def test_every_command_speaks_json(run: Run, arguments: tuple[str, ...], key: str) -> None:
    done = run(*arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert key in json.loads(done.stdout)
