"""What all tests share: the repository as import root, and the last words of a run.

The last lines say which suites were skipped and why, and what was measured.
"""

from __future__ import annotations

import signal
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Generator

REPO = Path(__file__).resolve().parents[1]
# Helpers are imported as tests.<module>, whichever way pytest was started.
if str(REPO) not in sys.path:
    sys.path.insert(0, str(REPO))

# How long an example takes says more of the machine's other work than of the code.
settings.register_profile("discoverd", deadline=None)
settings.load_profile("discoverd")

DEFAULTS = ((signal.SIGQUIT, signal.SIG_DFL), (signal.SIGHUP, signal.SIG_DFL))
#: ``record_property("measured ...", value)`` puts a figure into the last lines.
MEASURED = "measured "


def pytest_configure() -> None:
    """What a job in the background or nohup ignores, the programs under test would ignore as well."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), *DEFAULTS):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    """After all else: figures, then what was left out."""
    yield
    stats = terminalreporter.stats
    figures = [
        (report.nodeid, name.removeprefix(MEASURED), value)
        for reports in stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
        if name.startswith(MEASURED)
    ]
    if figures:
        terminalreporter.section("measured")
        for _, name, value in figures:
            terminalreporter.line(f"{name}: {value}")
    skipped: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for report in stats.get("skipped", []):
        if isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            skipped[reason][report.nodeid.partition("::")[0]] += 1
    if skipped:
        terminalreporter.section("skipped suites")
        for reason, suites in skipped.items():
            terminalreporter.line(f"{reason}:")
            for suite, count in sorted(suites.items()):
                terminalreporter.line(f"  {suite}, tests skipped: {count}")
