"""Tables on the terminal, the same as Markdown, and the plot."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.table import Table as RichTable

from bench.plot import svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from bench.measure import Effort
    from bench.results import Goal, Result, Table

PLOT: Final = "results.svg"
GOAL_COLUMNS: Final = ("what", "measured", "quartiles", "to reach", "", "C, batched")
HEAD: Final = """# Benchmarks

Written by `make bench`; [bench/README.md](../../bench/README.md) says how it measures and how to read this.
What falls short is limited by what [limits.md](limits.md) says, which also has longer runs of single figures.
Ratios are medians over rounds in which all servers were measured in turn; the quartiles are beside them.
Absolute figures belong to this machine and this hour, and mean something only next to each other.
"""


def show(console: Console, result: Result) -> None:
    """Print one experiment's tables and goals."""
    for table in result.tables:
        _print(console, table.title, table.columns, table.rows, table.note)
    if result.goals:
        _print(console, "", GOAL_COLUMNS, [_row(goal) for goal in result.goals], "")
    for line in (*result.notes, *(f"FAILED: {fault}" for fault in result.faults)):
        console.print(line, markup=False, highlight=False)


def _print(
    console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], note: str
) -> None:
    table = RichTable(title=title or None, caption=note or None, title_justify="left", caption_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _row(goal: Goal) -> tuple[str, ...]:
    sign = "≥" if goal.at_least else "≤"
    return goal.text, f"{goal.measured:,.2f}", goal.spread, f"{sign} {goal.bound:g}", goal.verdict, goal.limit


def write(folder: Path, results: Sequence[Result], effort: Effort, notes: Sequence[str]) -> Path:
    """Write README.md and the plot into ``folder``; the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [HEAD, _machine(effort)]
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    panels = {panel: bars for result in results for panel, bars in result.bars.items()}
    if panels:
        title = "Throughput by NSD's (1.00), and latency: median and quartiles"
        (folder / PLOT).write_text(svg(title, panels), encoding="utf-8")
        parts.append(f"![{title}]({PLOT})")
    goals = [goal for result in results for goal in result.goals]
    if goals:
        parts.append("## What is to be reached\n\n" + _markdown(GOAL_COLUMNS, [_row(goal) for goal in goals]))
    for result in results:
        parts += [_section(table) for table in result.tables]
        parts += [f"{note}." for note in result.notes]
        parts += [f"**Failed:** {fault}." for fault in result.faults]
    page = folder / "README.md"
    page.write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")
    return page


def _section(table: Table) -> str:
    note = f"{table.note}.\n\n" if table.note else ""
    return f"## {table.title}\n\n{note}{_markdown(table.columns, table.rows)}"


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(columns) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in (columns, rule, *rows))


def _machine(effort: Effort) -> str:
    cores = len(os.sched_getaffinity(0))
    where = (
        "pinned to one core, the load to another" if effort.cores.server >= 0 else "not pinned: one core only"
    )
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    day = datetime.now(UTC).date().isoformat()
    return (
        f"{day}, {model} with {cores} usable cores, Linux {platform.release()},"
        f" Python {platform.python_version()}; server {where};"
        f" {effort.rounds} rounds of {effort.seconds:g} s for each server and load;"
        f" load average at the end {os.getloadavg()[1]:.1f}, some 2 of it the benchmark's own."
    )
