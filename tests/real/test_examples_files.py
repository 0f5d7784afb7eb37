"""What all of examples/ has in common: an index, links that lead somewhere, and images with fixed tags."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.real.debian import REPO

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = REPO / "examples"
SCENARIOS = {path.parent.name for name in ("compose.yml", "stack.yml") for path in EXAMPLES.glob(f"*/{name}")}
READMES = sorted(EXAMPLES.rglob("README.md"))
#: ``image: busybox:1.37``, ``${BUSYBOX_IMAGE:-busybox:1.37}``, ``ARG PYTHON_IMAGE=python:3.13-slim``
IMAGE = re.compile(r"^\s*(?:image:|FROM|ARG \w+_IMAGE=)\s*(?:\$\{\w+:-)?([^\s$}]+)", re.MULTILINE)


def test_every_scenario_is_in_the_index() -> None:
    index = (EXAMPLES / "README.md").read_text()
    assert len(SCENARIOS) > 8
    assert {name for name in SCENARIOS if f"[{name}]({name}/README.md)" not in index} == set()
    everything = {path.name for path in EXAMPLES.iterdir()} - {"README.md"}
    assert {name for name in everything if f"]({name}" not in index} == set()


@pytest.mark.parametrize("readme", READMES, ids=[path.parent.name for path in READMES])
def test_links_lead_somewhere(readme: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", readme.read_text())
    assert [target for target in targets if not (readme.parent / target).exists()] == []


def test_images_have_fixed_tags() -> None:
    files = [path for path in EXAMPLES.rglob("*") if path.suffix == ".yml" or path.name == "Dockerfile"]
    found = [
        (str(path.relative_to(EXAMPLES)), name) for path in files for name in IMAGE.findall(path.read_text())
    ]
    assert len(found) > 12
    floating = [(file, name) for file, name in found if not re.search(r":\d[\w.-]*$", name)]
    assert floating == []
