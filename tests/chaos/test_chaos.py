"""The short form of the chaos run: one seed, a few rounds. ``make chaos`` is the long one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.chaos.run import chaos
from tests.chaos.world import World
from tests.conftest import MEASURED
from tests.real.conftest import TIMEOUT, or_left_out, session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.real.session import Session

__all__ = ["session"]

SEED = int(os.environ.get("DISCOVERD_CHAOS_SEED", "8"))
#: Of ten steps each; after the first one what is held must not become more.
ROUNDS = 3
#: Lookups a second, over both servers.
RATE = 2000


@pytest.mark.docker
@pytest.mark.consul
@pytest.mark.timeout(TIMEOUT)
def test_answers_are_the_truth_whatever_happens(
    session: Session, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with or_left_out():
        world = World(session, tmp_path)
    try:
        found = chaos(world, SEED, RATE, print, warm=lambda n: n >= 1, over=lambda n: n >= ROUNDS)
    finally:
        world.close()
    for server, counts in found["lookups"].items():
        assert counts["NOERROR"] > 1000, f"{server} was asked"
    assert found["faults"] >= 3
    record_property(f"{MEASURED}chaos run, seed {SEED}", found)
