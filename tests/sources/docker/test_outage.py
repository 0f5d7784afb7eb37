from __future__ import annotations

import logging

import pytest

from discoverd.sources.docker.outage import LAST_DELAY, QUIET, SETTLED, Outage


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "discoverd.docker")
    return caplog


def test_delays_grow_to_a_limit_and_begin_anew_after_some_time_in_step() -> None:
    clock = Clock()
    outage = Outage("docker/local", clock)
    delays = [outage.failed("away") for _ in range(10)]
    assert 0.075 <= delays[0] <= 0.125
    assert max(delays) <= LAST_DELAY * 1.25
    assert delays[-1] >= LAST_DELAY * 0.75
    outage.ended("")
    assert outage.failed("away") > 1  # it did not last
    outage.ended("")
    clock.now += SETTLED
    outage.ended("")
    assert outage.failed("away") < 1


def test_an_outage_is_logged_once_and_its_end_once(lines: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    outage = Outage("docker/local", clock)
    outage.ended("2 containers")
    for _ in range(5):
        outage.failed("no socket")
        clock.now += 2
    outage.ended("3 containers")
    outage.ended("3 containers")
    assert [r.getMessage() for r in lines.records] == [
        "docker/local: in step, 2 containers",
        "docker/local: no socket; trying again, what was known stays",
        "docker/local: in step after 10.0 s, 3 containers",
    ]


def test_a_source_that_knows_nothing_yet_says_so(lines: pytest.LogCaptureFixture) -> None:
    Outage("docker/local", Clock()).failed("no socket")
    assert "its names are unknown until then" in lines.text


def test_outages_in_quick_succession_are_counted_instead(lines: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    outage = Outage("docker/local", clock)
    for _ in range(10):
        outage.failed("it flaps")
        outage.ended("")
        clock.now += 1
    assert len(lines.records) == 2
    clock.now += QUIET
    outage.failed("it flaps")
    assert lines.records[-1].getMessage().endswith("(9 more outages since the last such line)")


def test_one_that_lasts_is_logged_however_soon_it_came(lines: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    outage = Outage("docker/local", clock)
    outage.failed("it restarts")
    outage.ended("")
    lines.clear()
    for _ in range(10):
        clock.now += QUIET / 10
        outage.failed("it is gone")
    assert [r.getMessage() for r in lines.records] == [
        "docker/local: it is gone; trying again, what was known stays"
    ]


def test_a_first_sync_is_told_once(lines: pytest.LogCaptureFixture) -> None:
    outage = Outage("docker/local", Clock())
    outage.ended("3 containers")
    outage.ended("4 containers")
    assert [r.getMessage() for r in lines.records] == ["docker/local: in step, 3 containers"]
