"""What probe results make of an instance's health."""

from __future__ import annotations

import pytest

from discoverd.checks.verdict import INTERVAL, JITTER, SOON, Verdict
from discoverd.model import Health


@pytest.mark.parametrize(
    ("results", "health"),
    [
        ("", Health.STARTING),
        ("+", Health.HEALTHY),
        ("--", Health.STARTING),
        ("--+", Health.HEALTHY),
        ("---", Health.UNHEALTHY),
        ("+--", Health.HEALTHY),
        ("+--+--", Health.HEALTHY),
        ("+---", Health.UNHEALTHY),
        ("+---+", Health.UNHEALTHY),
        ("+---+-+", Health.UNHEALTHY),
        ("+---++", Health.HEALTHY),
        ("---++---", Health.UNHEALTHY),
    ],
)
def test_results_in_a_row_count(results: str, health: Health) -> None:
    verdict = Verdict()
    for result in results:
        verdict = verdict.heard(well=result == "+")
    assert verdict.health is health


@pytest.mark.parametrize(
    ("verdict", "seconds"),
    [
        (Verdict(), SOON),
        (Verdict(Health.HEALTHY), INTERVAL),
        (Verdict(Health.UNHEALTHY), INTERVAL),
        (Verdict(Health.HEALTHY, 1), SOON),
        (Verdict(Health.UNHEALTHY, 1), SOON),
    ],
)
def test_a_contradiction_is_looked_into_soon(verdict: Verdict, seconds: float) -> None:
    assert verdict.wait(0.5) == seconds
    assert verdict.wait(0.0) == pytest.approx(seconds * (1 - JITTER))
    assert verdict.wait(1.0) == pytest.approx(seconds * (1 + JITTER))
