"""docs/faults.md: every fault names the test that shows what happens, and that test is there."""

from __future__ import annotations

import re

from tests.test_security_docs import NAMED, REPO, names_in

TEXT = (REPO / "docs" / "faults.md").read_text(encoding="utf-8")
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| fault")]


def test_every_fault_names_a_test() -> None:
    assert len(ROWS) > 20
    assert not [row for row in ROWS if not NAMED.search(row)]


def test_every_named_test_is_there() -> None:
    named = NAMED.findall(TEXT)
    assert not {f"{path}::{test}" for path, test in named if test not in names_in(REPO / path)}
    assert len(named) == TEXT.count("::test_"), "a name that was misspelt would not be looked for"


def test_every_link_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert targets
    for target in targets:
        assert (REPO / "docs" / target).exists(), target
