"""What the documentation shows after a ``$``, run against a real discoverd: the output is the documentation's.

A section's first block of TOML is the configuration, else examples/discoverd.toml. Lines count without
regard to their order and to the width of spaces; ``...`` stands for anything, and a line of its own for lines.
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
    from tests.real.server import Server

EXAMPLE = (REPO / "examples" / "discoverd.toml").read_text(encoding="utf-8")
#: Where documents have discoverd listen.
DNS, HTTP = "127.0.0.1 -p 1053", "127.0.0.1:8053"


def sessions() -> list[Any]:
    """What is to be run: sections without a configuration of their own share one server a page."""
    found: dict[tuple[str, str], list[Block]] = {}
    for name in ("docs/concepts.md", "docs/recipes.md", "docs/troubleshooting.md"):
        blocks = page(name).blocks
        for block in blocks:
            if block.language == "console" and not any(line.startswith("$ docker") for line in commands(block)):
                own = (b.text for b in blocks if b.section == block.section and b.language == "toml")
                found.setdefault((name, next(own, EXAMPLE)), []).append(block)
    return [
        pytest.param(config, shown, id=f"{name}: {shown[0].section}" + " and others" * (config == EXAMPLE))
        for (name, config), shown in found.items()
    ]


def commands(block: Block) -> list[str]:
    return [line for line in block.text.splitlines() if line.startswith("$ ")]


@pytest.mark.parametrize(("config", "blocks"), sessions())
def test_it_prints_what_the_documentation_shows(
    config: str, blocks: list[Block], discoverd: Callable[..., Server], tmp_path: Path
) -> None:
    with or_left_out():
        need("curl", "curl")
    server = discoverd(config=config)
    for block in blocks:
        for command, expected in steps(block):
            said = run(command, server, tmp_path)
            assert matches(expected, said), f"$ {command}\nis to print\n{expected}\nand prints\n{said}"


def steps(block: Block) -> Iterator[tuple[str, str]]:
    """Each command, and what is shown below it."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def run(command: str, server: Server, folder: Path) -> str:
    """A shell's line with this server's ports; its output with those of the documentation."""
    ours = (f"127.0.0.1 -p {server.dns_port}", f"127.0.0.1:{server.http_port}")
    here = command.replace(DNS, ours[0]).replace(HTTP, ours[1])
    program = folder / "bin" / "discoverd"
    if not program.exists():
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m discoverd "$@"\n')
        program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DISCOVERD_", "DOCKER_"))}
    env = {"PATH": path, "PYTHONPATH": str(REPO), "DISCOVERD_URL": server.url}
    done = subprocess.run(
        ["bash", "-c", here], env=kept | env, capture_output=True, text=True, timeout=60, check=False
    )
    said = done.stdout + done.stderr
    return said.replace(ours[1], HTTP).replace(f"#{server.dns_port}", "#1053")


def matches(expected: str, said: str) -> bool:
    """Whether each expected line is there once, and nothing else is unless ``...`` says so."""
    left = [" ".join(line.split()) for line in said.splitlines() if line.strip()]
    wanted = [" ".join(line.split()) for line in expected.splitlines() if line.strip()]
    for line in wanted:
        if line == "...":
            continue
        pattern = re.compile(".*".join(map(re.escape, re.split(r" ?\.\.\. ?", line))))
        found = next((each for each in left if pattern.fullmatch(each)), None)
        if found is None:
            return False
        left.remove(found)
    return not left or "..." in wanted


def test_what_does_not_match_is_told() -> None:
    assert matches("b\na  x\n", "a x\n\nb\n")
    assert matches("a ... c\n...\n", "a b c\nd\n")
    assert not matches("a\n", "a\nb\n")
    assert not matches("a\na\n", "a\n")
    assert not matches("a ... c\n", "a b d\n")
