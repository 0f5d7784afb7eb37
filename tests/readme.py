"""The README's fenced blocks, for the tests that run them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Block:
    """One fenced block: what it is written in, and its text."""

    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """A shell block's lines without their remarks."""
        return [line.split("  #")[0].strip() for line in self.text.splitlines() if line.strip()]


def blocks() -> list[Block]:
    text = (REPO / "README.md").read_text(encoding="utf-8")
    return [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


def block(language: str, start: str) -> Block:
    """The one block in this language whose text begins so."""
    found = [each for each in blocks() if each.language == language and each.text.startswith(start)]
    assert len(found) == 1, f"{len(found)} blocks of {language} begin with {start!r} in README.md"
    return found[0]
