"""What the documentation shows after a ``$``, run against a real discoverd: it prints what is shown.

A section's first block of TOML is the configuration, else examples/discoverd.toml; sections that call docker
have a real engine. Lines count without regard to their order and to the width of spaces; ``...`` stands for
anything, and a line of its own for lines. Docker's addresses are whatever the engine gives out, but each is
one and the same throughout.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.documents import REPO, page
from tests.real.conftest import or_left_out
from tests.real.debian import need

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.documents import Block
    from tests.real.engine import Engine
    from tests.real.server import Server

EXAMPLE = (REPO / "examples" / "discoverd.toml").read_text(encoding="utf-8")
PAGES = ("docs/concepts.md", "docs/recipes.md", "docs/troubleshooting.md")
#: Where documents have discoverd listen, and the gateway of Docker's default bridge.
DNS, LISTEN, HTTP, GATEWAY = "127.0.0.1 -p 1053", "127.0.0.1:1053", "127.0.0.1:8053", "172.17.0.1"
#: Projects, whose names may be taken on an engine that is somebody's.
PROJECTS = ("shop", "blog")
#: The variables that tests' servers are given, by the tables that say the same.
GIVEN = {"docker": "DISCOVERD_DOCKER", "forward": "DISCOVERD_UPSTREAM"}
DOCKERS_OWN = re.compile(r"172\.(?:1[89]|2[0-9])\.\d+\.\d+")


def shown(*, docker: bool) -> Iterator[tuple[str, str, Block]]:
    """Each block to run, with its page and its configuration; those that call docker or those that do not."""
    for name in PAGES:
        blocks = page(name).blocks
        for section in dict.fromkeys(block.section for block in blocks):
            own = [block for block in blocks if block.section == section]
            config = next((block.text for block in own if block.language == "toml"), "")
            run = [block for block in own if block.language == "console"]
            if any(re.search(r"^\$ docker ", block.text, re.MULTILINE) for block in run) is docker:
                yield from ((name, config, block) for block in run)


def plain() -> list[Any]:
    """Sections without a configuration of their own share one server a page."""
    found: dict[tuple[str, str], list[Block]] = {}
    for name, config, block in shown(docker=False):
        found.setdefault((name, config or EXAMPLE), []).append(block)
    return [
        pytest.param(key[1], blocks, id=f"{key[0]}: {blocks[0].section}") for key, blocks in found.items()
    ]


def with_docker() -> list[Any]:
    found: dict[tuple[str, str], list[Block]] = {}
    for name, _, block in shown(docker=True):
        found.setdefault((name, block.section), []).append(block)
    return [pytest.param(blocks, id=f"{name}: {section}") for (name, section), blocks in found.items()]


class Shell:
    """Runs the documentation's commands with what is really there in the place of what it names."""

    def __init__(self, folder: Path, server: Server, replaced: dict[str, str], docker: Engine | None) -> None:
        self._replaced = replaced | {HTTP: server.url.removeprefix("http://")}
        self._replaced |= {DNS: f"127.0.0.1 -p {server.dns_port}", LISTEN: f"127.0.0.1:{server.dns_port}"}
        #: Docker's addresses in the documentation, and here.
        self._addresses: dict[str, str] = {}
        self._bin = folder / "bin"
        self._bin.mkdir()
        self._program("discoverd", f'exec {sys.executable} -m discoverd "$@"')
        self._env = {"PYTHONPATH": str(REPO), "DISCOVERD_URL": server.url}
        if docker:
            label = f"--label {docker.session.label} --label {self.label(folder)}"
            real = f"DOCKER_HOST={docker.url} {need('docker', 'docker.io')}"
            self._program(
                "docker",
                f'case "$1" in run) shift; set -- run {label} "$@";;'
                f' network) [ "$2" = create ] && {{ shift 2; set -- network create {label} "$@"; }};; esac',
                f'exec env {real} "$@"',
            )
            self._replaced[" busybox"] = f" {docker.image}"

    @staticmethod
    def label(folder: Path) -> str:
        return f"discoverd.docs={folder.name}"

    def _program(self, name: str, *lines: str) -> None:
        path = self._bin / name
        path.write_text("\n".join(("#!/bin/sh", *lines, "")))
        path.chmod(0o755)

    def run(self, command: str) -> str:
        for ours, real in (self._addresses | self._replaced).items():
            command = command.replace(ours, real)
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("DISCOVERD_", "DOCKER_"))
        }
        path = {"PATH": f"{self._bin}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-c", command],
            env=kept | path | self._env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        said = done.stdout + done.stderr
        for ours, real in self._replaced.items():
            said = said.replace(real, ours)
        return said

    def matches(self, expected: str, said: str) -> bool:
        """Whether each expected line is there once, and nothing else is unless ``...`` says so."""
        left = [" ".join(line.split()) for line in said.splitlines() if line.strip()]
        wanted = [" ".join(line.split()) for line in expected.splitlines() if line.strip()]
        for line in sorted(wanted, key=lambda each: bool(DOCKERS_OWN.search(each))):
            if line != "..." and not self._take(line, left):
                return False
        return not left or "..." in wanted

    def _take(self, line: str, left: list[str]) -> bool:
        """Take the line that is meant out of those that are left, and learn the addresses in it."""
        known = self._addresses
        parts = re.split(f"( ?\\.\\.\\. ?|{DOCKERS_OWN.pattern})", line)
        groups = [part for part in parts if DOCKERS_OWN.fullmatch(part)]
        pattern = "".join(
            ".*"
            if part.strip() == "..."
            else re.escape(known.get(part, part))
            if part in known or part not in groups
            else r"(\d+\.\d+\.\d+\.\d+)"
            for part in parts
        )
        new = [part for part in groups if part not in known]
        for each in left:
            found = re.fullmatch(pattern, each)
            if found and not set(found.groups()) & set(known.values()):
                known.update(zip(new, found.groups(), strict=True))
                left.remove(each)
                return True
        return False


def check(blocks: list[Block], shell: Shell) -> None:
    for block in blocks:
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            said = shell.run(command)
            assert shell.matches(expected, said), f"$ {command}\nis to print\n{expected}\nand prints\n{said}"


@pytest.mark.parametrize(("config", "blocks"), plain())
def test_it_prints_what_the_documentation_shows(
    config: str, blocks: list[Block], discoverd: Callable[..., Server], tmp_path: Path
) -> None:
    with or_left_out():
        need("curl", "curl")
    # what a section configures counts, where the tests' servers have neither engine nor name servers
    env = {variable: "" for table, variable in GIVEN.items() if f"[{table}]" in config}
    check(blocks, Shell(tmp_path, discoverd(config=config, env=env), {}, None))


@pytest.mark.skipif(os.geteuid() != 0, reason="port 53 of a bridge is root's")
@pytest.mark.parametrize("blocks", with_docker())
def test_it_prints_what_the_documentation_shows_of_containers(
    blocks: list[Block],
    engine: Engine,
    discoverd: Callable[..., Server],
    unique: Callable[[str], str],
    tmp_path: Path,
) -> None:
    gateway = engine.docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", "bridge")
    server = discoverd("--listen", f"{gateway}:53", docker=engine, listen="127.0.0.1:0")
    server.wait_source("live")
    replaced = {GATEWAY: gateway, **{project: unique(project) for project in PROJECTS}}
    try:
        check(blocks, Shell(tmp_path, server, replaced, engine))
    finally:
        made = ("--quiet", "--filter", f"label={Shell.label(tmp_path)}")
        if left := engine.docker("ps", "--all", *made):
            engine.docker("rm", "--force", "--volumes", *left.split())
        if left := engine.docker("network", "ls", *made):
            engine.docker("network", "rm", *left.split())


def test_what_does_not_match_is_told() -> None:
    shell = Shell.__new__(Shell)
    shell._addresses = {}
    assert shell.matches("b\na  x\n", "a x\n\nb\n")
    assert shell.matches("a ... c\n...\n", "a b c\nd\n")
    assert not shell.matches("a\n", "a\nb\n")
    assert not shell.matches("a\na\n", "a\n")
    assert not shell.matches("a ... c\n", "a b d\n")
    assert shell.matches("at 172.18.0.2\n", "at 10.1.0.5\n")
    assert not shell.matches("at 172.18.0.2\n", "at 10.1.0.6\n")
    assert not shell.matches("at 172.18.0.3\n", "at 10.1.0.5\n")
