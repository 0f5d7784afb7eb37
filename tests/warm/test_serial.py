"""The SOA serial across restarts, after more changes than seconds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from discoverd.registry import Registry
from discoverd.warm.serial import AHEAD, SerialKeeper
from tests.dns.serving import instance, query, serving
from tests.wait import until_async

if TYPE_CHECKING:
    from pathlib import Path


def changed(registry: Registry, times: int) -> Registry:
    writer = registry.writer("test", "test")
    for number in range(times):
        writer.publish("a", [instance("a", f"192.0.2.{number % 200}")])
    return registry


def within(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def serial_of(folder: Path, times: int) -> tuple[int, int]:
    """Serials that a server says before and after so many changes, before it is stopped."""
    async with serving(folder, state_dir=str(folder / "state")) as server:
        said = []
        for count in (0, times):
            changed(server.app.registry, count)
            reply = await server.ask(query("docker", "SOA"))
            said.append(reply.answer[0][0].serial)
        return said[0], said[1]


async def test_the_serial_never_goes_back_at_a_restart(tmp_path: Path) -> None:
    before = 0
    for _ in range(3):
        first, last = await serial_of(tmp_path, 500)
        assert before < first < last
        assert last > time.time() + 100
        before = last


async def test_nor_where_the_server_was_killed(tmp_path: Path) -> None:
    registry = changed(Registry(), 500)
    keeper = SerialKeeper(registry, tmp_path / "serial")
    running = asyncio.get_running_loop().create_task(keeper.run(), name="serial")
    await until_async((tmp_path / "serial").exists)
    running.cancel()  # and no last word
    with contextlib.suppress(asyncio.CancelledError):
        await running
    changed(registry, 500)
    after = Registry()
    SerialKeeper(after, tmp_path / "serial").begin()
    assert registry.serial <= after.serial <= registry.serial + AHEAD


async def test_nothing_is_kept_while_the_clock_does(tmp_path: Path) -> None:
    registry = Registry()
    registry.serial = int(time.time()) - 1000
    await SerialKeeper(registry, tmp_path / "serial").close()
    assert within(tmp_path) == []


@pytest.mark.parametrize("text", ["", "not a number", "-", "12 34", "\x00"])
async def test_what_cannot_be_read_is_said_and_left(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "serial").write_text(text)
    registry = Registry()
    before = registry.serial
    SerialKeeper(registry, tmp_path / "serial").begin()
    assert registry.serial == before
    assert str(tmp_path / "serial") in caplog.text


async def test_a_place_that_cannot_be_written_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry = changed(Registry(), 500)
    keeper = SerialKeeper(registry, tmp_path / "nowhere" / "serial")
    await keeper.close()
    await keeper.close()
    assert caplog.text.count("cannot be kept") == 1
