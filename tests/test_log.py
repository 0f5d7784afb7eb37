from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Literal

import pytest

from discoverd import log

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """What a test sets up is gone after it."""
    root, ours = logging.getLogger(), logging.getLogger("discoverd")
    handlers, level, our_level = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    ours.setLevel(our_level)
    logging.captureWarnings(capture=False)


def written(level: str, style: Literal["text", "json"]) -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    logging.getLogger().handlers.clear()
    log.set_up(level, style, stream)
    return logging.getLogger("discoverd.sources.docker"), stream


def test_text_is_one_line_with_its_fields() -> None:
    logger, stream = written("info", "text")
    logger.warning("lost %s", "it", extra={"engine": "local", "why": "no reply"})
    line = stream.getvalue()
    assert line.endswith(' warning docker: lost it engine=local why="no reply"\n')
    assert line[:4].isdigit()
    assert line.index("Z ") == 23


def test_a_name_from_outside_cannot_start_a_line_or_steer_a_terminal() -> None:
    logger, stream = written("info", "text")
    logger.info("container %s", "a\nb\x1b[2J", extra={"name_": "x\r"})
    assert stream.getvalue().endswith("info    docker: container a\\nb\\x1b[2J name_=x\\r\n")


def test_json_is_one_object_a_line() -> None:
    logger, stream = written("info", "json")
    logger.error("lost\n%d", 5, extra={"engine": "é", "path": io, "level": "not this"})
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert entry.pop("time").endswith("Z")
    assert "module 'io'" in entry.pop("path")[:20]
    assert entry == {
        "level": "error",
        "logger": "discoverd.sources.docker",
        "message": "lost\n5",
        "engine": "é",
    }


@pytest.mark.parametrize(("level", "shown"), [("info", False), ("debug", True)])
def test_an_exception_is_one_line_and_its_traceback_is_for_debugging(level: str, shown: bool) -> None:
    for style in ("text", "json"):
        logger, stream = written(level, style)
        try:
            raise OSError("no such thing")  # noqa: TRY301
        except OSError:
            logger.exception("could not")
        text = stream.getvalue()
        assert "could not: OSError: no such thing" in text
        assert ("Traceback" in text) is shown
        assert (style == "json") is (text.count("\n") == 1) or not shown


def test_levels_are_for_discoverd_and_libraries_are_heard_from_warnings_on() -> None:
    logger, stream = written("debug", "text")
    logger.debug("ours")
    logging.getLogger("urllib3").info("theirs")
    logging.getLogger("urllib3").warning("their warning")
    assert "ours" in stream.getvalue()
    assert "theirs" not in stream.getvalue()
    assert "their warning" in stream.getvalue()
    logger, stream = written("error", "text")
    logger.warning("ours")
    assert stream.getvalue() == ""


def record(message: str, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("discoverd", level, "x.py", 1, message, None, None)


def test_repeats_are_held_back_and_counted() -> None:
    now = 0.0
    repeats = log.RepeatFilter(lambda r: (r.getMessage(),), lines=2, seconds=10, clock=lambda: now)
    assert [repeats.filter(record("a")) for _ in range(5)] == [True, True, False, False, False]
    assert repeats.filter(record("b"))
    now = 9.9
    assert not repeats.filter(record("a"))
    now = 10.0
    again = record("a")
    assert repeats.filter(again)
    assert log.TextFormatter(tracebacks=False).format(again).endswith("a (4 more like this were not shown)")
    after = record("a")
    assert repeats.filter(after)
    assert "not shown" not in log.TextFormatter(tracebacks=False).format(after)


def test_debugging_holds_nothing_back() -> None:
    repeats = log.RepeatFilter(lambda _: (), lines=1, seconds=10)
    assert all(repeats.filter(record("a", logging.DEBUG)) for _ in range(5))


def test_only_so_many_messages_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "REMEMBERED_MESSAGES", 3)
    repeats = log.RepeatFilter(lambda r: (r.getMessage(),), lines=1, seconds=10, clock=lambda: 0.0)
    for message in "abcd":
        assert repeats.filter(record(message))
    assert repeats.filter(record("a"))  # forgotten, so it is new again
    assert not repeats.filter(record("d"))


def test_a_flood_of_different_words_from_one_place_is_held_back() -> None:
    logger, stream = written("info", "text")
    for number in range(log.SAME_PLACE_LINES * 2):
        logger.warning("bad packet %d", number)
    assert stream.getvalue().count("\n") == log.SAME_PLACE_LINES
