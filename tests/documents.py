"""The documentation as data: its pages, their headings and links, and what stands in fenced blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#{1,6}) (.+)$", re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """One fenced block: what it is written in, its text, and the heading that it stands below."""

    language: str
    text: str
    section: str = ""

    @property
    def commands(self) -> list[str]:
        """A shell block's lines without their remarks."""
        return [line.split("  #")[0].strip() for line in self.text.splitlines() if line.strip()]


@dataclass(frozen=True)
class Page:
    """A file of Markdown."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path.relative_to(REPO))

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def prose(self) -> str:
        """All but what is fenced."""
        return FENCE.sub("", self.text)

    @property
    def blocks(self) -> list[Block]:
        text = self.text
        titles = [(found.start(), found[2]) for found in HEADING.finditer(FENCE.sub(_blank, text))]
        return [
            Block(found[1], found[2], next((t for at, t in reversed(titles) if at < found.start()), ""))
            for found in FENCE.finditer(text)
        ]

    @property
    def anchors(self) -> set[str]:
        """What its headings are linked by, as GitHub makes it; the second of two alike ends in ``-1``."""
        made: dict[str, int] = {}
        found = set()
        for _, title in HEADING.findall(self.prose):
            slug = _slug(title)
            count = made[slug] = made.get(slug, -1) + 1
            found.add(f"{slug}-{count}" if count else slug)
        return found

    @property
    def links(self) -> list[str]:
        """Targets of links and pictures."""
        return LINK.findall(SPAN.sub("", self.prose))

    @property
    def spans(self) -> list[str]:
        """What stands between backticks."""
        return SPAN.findall(self.prose)


def _blank(found: re.Match[str]) -> str:
    """As many characters without meaning, so that positions stay."""
    return re.sub(r"[^\n]", ".", found[0])


def _slug(title: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@cache
def pages() -> tuple[Page, ...]:
    """Every page that people read, the README first."""
    found = [REPO / "README.md", REPO / "CHANGELOG.md", REPO / "bench" / "README.md"]
    found += sorted((REPO / "docs").rglob("*.md")) + sorted((REPO / "examples").rglob("*.md"))
    return tuple(map(Page, found))


def page(name: str) -> Page:
    return Page(REPO / name)
