"""Tables: aligned words for other programs, lines and colours for people. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Words that are coloured wherever they are a whole cell.
COLOURS = {
    "healthy": "green",
    "running": "green",
    "live": "green",
    "served": "green",
    "ok": "green",
    "starting": "yellow",
    "draining": "yellow",
    "syncing": "yellow",
    "stale": "yellow",
    "warning": "yellow",
    "unhealthy": "red",
    "paused": "red",
    "restarting": "red",
    "stopped": "red",
    "problem": "red",
}

#: Columns of sentences; all others stay on one line and are cut where a terminal is narrow.
WRAPPED = ("WHY", "FOUND", "MEND")
#: Characters of a cell that are always shown.
SHORT = 9


@dataclass(frozen=True)
class Table:
    """Columns and rows; every cell is text, possibly of strangers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def clean(text: str) -> str:
    """Text that cannot steer a terminal: containers and registrants choose their own names."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def plain(table: Table) -> Iterator[str]:
    """Columns that line up, two spaces apart; an empty cell is ``-``, so that awk can count on columns."""
    rows = [list(table.columns), *([clean(cell) or "-" for cell in row] for row in table.rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.columns))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def pretty(table: Table, width: int, *, colour: bool) -> Iterator[str]:
    """The same for a terminal of so many columns."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    made = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for number, column in enumerate(table.columns):
        sentences = column in WRAPPED
        longest = max(len(text) for text in (column, *(row[number] for row in table.rows)))
        made.add_column(
            column,
            no_wrap=not sentences,
            overflow="fold" if sentences else "ellipsis",
            min_width=min(longest, SHORT),
        )
    for row in table.rows:
        cells = [clean(cell) for cell in row]
        made.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in cells))
    out = StringIO()
    console = Console(file=out, width=width, force_terminal=colour, no_color=not colour, highlight=False)
    console.print(made)
    yield from out.getvalue().rstrip("\n").split("\n")
