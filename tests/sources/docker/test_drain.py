from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from discoverd.model import State
from discoverd.sources.docker.drain import begins, draining, grace_of, signal_number, stop_signal_of
from tests.sources.docker.recorded import container


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("15", 15),
        ("TERM", 15),
        ("SIGTERM", 15),
        ("sigquit", 3),
        ("SIGWINCH", int(signal.SIGWINCH)),
        ("SIGRTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("RTMIN+3", 37),
        ("0", None),
        ("", None),
        ("-9", None),
        ("SIGNONSENSE", None),
        ("SIGTERM+1", None),
        ("\u0661", None),
    ],
)
def test_signals(text: str, number: int | None) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize(("text", "number"), [("", 15), ("SIGQUIT", 3), ("3", 3), ("garbage", 15)])
def test_stop_signals(text: str, number: int) -> None:
    assert stop_signal_of(text) == number


@pytest.mark.parametrize(
    ("value", "seconds"), [(None, 10), (0, 0), (3, 3), (-1, 3600), (99999, 3600), ("5", 10), (True, 10)]
)
def test_grace(value: object, seconds: float) -> None:
    assert grace_of(value) == seconds


@pytest.mark.parametrize(
    ("own", "sent", "drains"),
    [
        ("", "15", True),
        ("", "9", True),
        ("", "2", True),
        ("", "3", True),
        ("", "1", False),
        ("", "10", False),
        ("", "12", False),
        ("", "28", False),
        ("SIGHUP", "1", True),
        ("SIGWINCH", "28", True),  # httpd's graceful stop
        ("SIGWINCH", "10", False),
        ("SIGRTMIN+3", "37", True),
        ("", "", False),  # Podman does not say
        ("", "0", False),
    ],
)
def test_which_signals_start_a_drain(own: str, sent: str, drains: bool) -> None:
    web = replace(container("engine-26", "plain"), stop_signal=stop_signal_of(own))
    assert (begins(web, sent, 100.0) is not None) is drains


def test_a_drain_lasts_for_the_containers_own_grace_and_a_second() -> None:
    web = container("engine-26", "shop-web-1")
    assert (web.stop_signal, web.grace) == (10, 3.0)  # SIGUSR1 and 3s, by its project's file
    drain = begins(web, "10", 100.0)
    assert drain is not None
    assert drain.until == 104.0
    assert drain.holds(web, 103.9)
    assert not drain.holds(web, 104.0)
    assert not drain.holds(replace(web, started_at=web.started_at + 1), 101.0)
    assert not drain.holds(replace(web, running=False), 101.0)


def test_what_does_not_run_does_not_drain() -> None:
    assert begins(container("engine-26", "db-stopped"), "15", 0.0) is None


def test_only_running_instances_change() -> None:
    web, paused = (container("engine-26", name).instances for name in ("plain", "paused"))
    assert [i.state for i in draining(web)] == [State.DRAINING]
    assert draining(web)[0].addresses == web[0].addresses
    assert draining(paused) == paused
