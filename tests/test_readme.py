"""The README: what holds without an engine; tests/real/test_readme.py runs the rest of its commands."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

from discoverd.config import load
from discoverd.config.machine import Machine
from tests.readme import REPO, block, blocks

if TYPE_CHECKING:
    from pathlib import Path

#: Every block, and the test that runs it: one that is new fails until it has one.
TESTED = {
    ("sh", "make run"): "tests/real/test_readme.py::test_make_run_and_the_questions_after_it",
    (
        "sh",
        "dig @127.0.0.1 -p 1053 web.docker",
    ): "tests/real/test_readme.py::test_make_run_and_the_questions_after_it",
    ("sh", "make test"): "this run",
    ("sh", "docker compose -f compose.example.yml up"): "tests/real/test_readme.py::test_compose_example",
    ("yaml", "services:"): "tests/real/test_readme.py::test_compose_example",
    ("sh", "discoverd serve --listen 172.17.0.1:53"): "tests/real/test_readme.py::test_a_bridge_address",
    ("json", '{ "dns"'): "tests/real/test_readme.py::test_daemon_json",
    ("toml", "listen ="): "tests/test_readme.py::test_the_lan",
    ("sh", "discoverd check"): "tests/test_readme.py::test_check",
    ("sh", "discoverd doctor"): "tests/real/test_readme.py::test_make_run_and_the_questions_after_it",
}


def test_every_block_is_run_by_a_test() -> None:
    for each in blocks():
        claims = [key for key in TESTED if key[0] == each.language and each.text.startswith(key[1])]
        assert len(claims) == 1, f"README.md has a block that no test runs:\n{each.text}"
    assert len(blocks()) == len(TESTED)


def test_the_tests_that_run_them_are_there() -> None:
    for place in set(TESTED.values()) - {"this run"}:
        path, name = place.split("::")
        assert f"def {name}(" in (REPO / path).read_text(encoding="utf-8")


def test_the_lan(tmp_path: Path) -> None:
    text = block("toml", "listen =").text
    (tmp_path / "discoverd.toml").write_text(text)
    config = load({}, {}, tmp_path, Machine())
    assert [str(endpoint) for endpoint in config.listen] == tomllib.loads(text)["listen"]
    assert [str(engine.host_address) for engine in config.docker] == [config.listen[0].host]


def test_check() -> None:
    (command,) = block("sh", "discoverd check").commands
    words = command.split()
    assert words[0] == "discoverd"
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("DISCOVERD_", "DOCKER_"))
    }
    result = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=REPO,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert tomllib.loads(result.stdout)["service"]
