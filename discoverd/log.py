"""Log lines on standard error: one line a message, as text or JSON, with repeats held back.

Fields are given with ``extra={"engine": "local"}`` and appear as ``engine=local`` or as JSON keys.
"""

from __future__ import annotations

import codecs
import json
import logging
import sys
import time
import traceback
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Literal, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

#: Names of every attribute that a record has without ``extra``.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "held_back"}

#: One message with the same words: as many lines in as many seconds.
SAME_MESSAGE_LINES, SAME_MESSAGE_SECONDS = 5, 10.0
#: One place in the code, whatever the words: a flood of bad packets must not fill a disk.
SAME_PLACE_LINES, SAME_PLACE_SECONDS = 100, 10.0
#: Different messages that are kept count of; the one not seen for longest is forgotten first.
REMEMBERED_MESSAGES = 1024


# At once: it is read from a file, and a line must also be written while no file can be opened.
codecs.lookup("unicode_escape")


def set_up(
    level: str = "info", style: Literal["text", "json"] = "text", stream: TextIO | None = None
) -> logging.Handler:
    """Send the log to ``stream`` (standard error); may be called again, as a reload does.

    Libraries are heard from warnings on; tracebacks are shown at level debug only.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    debug = level == "debug"
    handler.setFormatter(
        JsonFormatter(tracebacks=debug) if style == "json" else TextFormatter(tracebacks=debug)
    )
    handler.addFilter(RepeatFilter(_message, SAME_MESSAGE_LINES, SAME_MESSAGE_SECONDS))
    handler.addFilter(RepeatFilter(_place, SAME_PLACE_LINES, SAME_PLACE_SECONDS))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("discoverd").setLevel(level.upper())
    logging.captureWarnings(capture=True)
    return handler


def _message(record: logging.LogRecord) -> tuple[object, ...]:
    return record.name, record.levelno, record.getMessage()


def _place(record: logging.LogRecord) -> tuple[object, ...]:
    return record.name, record.levelno, record.pathname, record.lineno


class RepeatFilter(logging.Filter):
    """Lets so many records with the same key through in so many seconds.

    The next one that passes says how many were held back.
    """

    def __init__(
        self,
        key: Callable[[logging.LogRecord], tuple[object, ...]],
        lines: int,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._key, self._lines, self._seconds, self._clock = key, lines, seconds, clock
        #: key -> start of its window, lines in it, lines held back
        self._seen: OrderedDict[tuple[object, ...], tuple[float, int, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.DEBUG:
            return True
        key, now = self._key(record), self._clock()
        since, count, held_back = self._seen.pop(key, (now, 0, 0))
        if now - since >= self._seconds:
            since, count = now, 0
        passes = count < self._lines
        if passes and held_back:
            record.held_back = held_back
        self._seen[key] = (since, count + 1, 0 if passes else held_back + 1)
        if len(self._seen) > REMEMBERED_MESSAGES:
            self._seen.popitem(last=False)
        return passes


class _Formatter(logging.Formatter):
    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def _time(self, record: logging.LogRecord) -> str:
        """The time in UTC as RFC 3339 writes it, to the millisecond."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{seconds}.{int(record.msecs):03d}Z"

    def _parts(self, record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
        """The message, with an exception's own words after it, and the fields."""
        message = record.getMessage()
        fields = {key: value for key, value in vars(record).items() if key not in _OWN}
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            message += f": {''.join(traceback.format_exception_only(error)).strip()}"
            if self._tracebacks:
                fields["traceback"] = "".join(traceback.format_exception(error))
        if held_back := getattr(record, "held_back", 0):
            message += f" ({held_back} more like this were not shown)"
        return message, fields


class TextFormatter(_Formatter):
    """``2026-01-31T12:00:00.000Z warning docker: the event stream ended engine=local``."""

    def format(self, record: logging.LogRecord) -> str:
        message, fields = self._parts(record)
        trace = fields.pop("traceback", "")
        name = record.name.removeprefix("discoverd.").removeprefix("sources.")
        line = f"{self._time(record)} {record.levelname.lower():7} {name}: {message}"
        for key, value in fields.items():
            text = str(value)
            line += f" {key}={json.dumps(text, ensure_ascii=False) if ' ' in text or not text else text}"
        return _one_line(line) + (f"\n{trace.rstrip()}" if trace else "")


class JsonFormatter(_Formatter):
    """One object a line: ``time``, ``level``, ``logger``, ``message``, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        message, fields = self._parts(record)
        head = {"time": self._time(record), "level": record.levelname.lower(), "logger": record.name}
        # default=str: a field may be an address, a path or an exception
        return json.dumps({**fields, **head, "message": message}, default=str, ensure_ascii=True)


def _one_line(text: str) -> str:
    """Escape what would start a new line or steer a terminal: names in it come from strangers."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
