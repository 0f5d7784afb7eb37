"""docs/security.md: every line says which test holds it, and that test is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
TEXT = (REPO / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
LINES = re.findall(r"^- .*(?:\n  .*)*", TEXT, re.MULTILINE)


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


def test_every_line_names_a_test() -> None:
    assert len(LINES) > 30
    without = [line for line in LINES if not NAMED.search(line)]
    assert not without


def test_every_named_test_is_there() -> None:
    missing = {
        f"{path}::{test}"
        for path, test in NAMED.findall(TEXT)
        if not (REPO / path).is_file() or test not in names_in(REPO / path)
    }
    assert not missing
    # a name that was misspelt would not be looked for
    assert len(NAMED.findall(TEXT)) == TEXT.count("::test_")


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (REPO / "docs" / target).exists(), target
