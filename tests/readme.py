"""The README's fenced blocks, for the tests that run them."""

from __future__ import annotations

from tests.documents import REPO, Block, page

__all__ = ["REPO", "Block", "block", "blocks"]


def blocks() -> list[Block]:
    return page("README.md").blocks


def block(language: str, start: str) -> Block:
    """The one block in this language whose text begins so."""
    found = [each for each in blocks() if each.language == language and each.text.startswith(start)]
    assert len(found) == 1, f"{len(found)} blocks of {language} begin with {start!r} in README.md"
    return found[0]
