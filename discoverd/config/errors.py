"""A wrong configuration, told in lines that say where, what, and what was expected instead."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Characters of a value that an error repeats.
SHOWN_CHARACTERS = 60


class ConfigError(Exception):
    """The configuration is wrong. ``lines`` has one line for each fault, ``line`` is the first of them."""

    def __init__(self, lines: Sequence[str] | str) -> None:
        self.lines = (lines,) if isinstance(lines, str) else tuple(lines)
        self.line = self.lines[0]
        super().__init__(self.line)


def shown(value: Any, *, quoted: bool = True, most: int = SHOWN_CHARACTERS) -> str:
    """A value as it was written, short and on one line: as TOML writes it, or bare as a shell has it."""
    if isinstance(value, str) and not quoted and value.isprintable() and value:
        text = value
    elif isinstance(value, dict):
        text = "{ " + ", ".join(value) + " }"
    else:
        text = json.dumps(value, ensure_ascii=False, default=str)
        text = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    return text if len(text) <= most else text[: most - 3] + "..."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``, did you mean "ttl"?`` for a near miss, else the list of what there is."""
    names = sorted(known)
    near = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    if near:
        return f'did you mean "{near[0]}"?'
    return "expected " + " or ".join(", ".join(names).rsplit(", ", 1))
