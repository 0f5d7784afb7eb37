from __future__ import annotations

import pytest

from discoverd.sources.consul.pace import BURST, FIRST_STEP, LAST_STEP, Bucket, Retry


def test_a_burst_is_free_and_what_follows_is_one_a_second() -> None:
    bucket = Bucket()
    assert [bucket.take(100.0) for _ in range(BURST)] == [0.0] * BURST
    assert bucket.take(100.0) == pytest.approx(1.0)
    assert bucket.take(101.0) == pytest.approx(1.0)
    assert bucket.take(105.0) == 0.0
    assert [bucket.take(1000.0) for _ in range(BURST)] == [0.0] * BURST


def test_pauses_grow_to_a_limit_and_differ() -> None:
    retry = Retry()
    pauses = [retry.failed() for _ in range(200)]
    assert all(0 <= pause <= LAST_STEP for pause in pauses)
    assert pauses[0] <= FIRST_STEP
    assert max(pauses[20:]) > LAST_STEP / 2
    assert len(set(pauses)) > 100
    retry.reset()
    assert retry.failed() <= FIRST_STEP
