"""Registrations: leases by a clock of the test's own, and the ledger they are kept in."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from discoverd.ledger import FILE, Ledger, LedgerError, open_ledger
from discoverd.registration import Registration, parse, to_instance, to_json, unique_label
from discoverd.registry import Registry
from discoverd.sources import leases
from discoverd.sources.leases import FullError, LeaseSource, NotKeptError
from tests.wait import until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def registration(ident: str = "a", **more: Any) -> Registration:
    return Registration(ident, "web", ("10.0.0.1",), **more)


@asynccontextmanager
async def source(folder: Path | None = None, clock: Clock | None = None) -> AsyncIterator[LeaseSource]:
    made = LeaseSource(Registry().writer("registered", "registered"), clock=clock or Clock())
    made.load(open_ledger(folder) if folder else None)
    try:
        yield made
    finally:
        await made.close()


def known(of: LeaseSource) -> dict[str, Registration]:
    return dict(of._held)


async def test_put_says_whether_it_is_new_and_delete_whether_it_was_there(tmp_path: Path) -> None:
    async with source(tmp_path) as held:
        assert await held.put(registration())
        assert not await held.put(registration(weight=2))
        assert known(held)["a"].weight == 2
        assert await held.delete("a")
        assert not await held.delete("a")
        assert not known(held)


async def test_what_was_kept_is_there_again_with_its_whole_lease(tmp_path: Path) -> None:
    clock = Clock()
    full = parse(
        "full",
        {
            "service": "web",
            "scope": "shop",
            "addresses": ["10.0.0.1", "2001:db8::1"],
            "ports": [{"port": 80, "name": "http", "published": 8080}, "53/udp"],
            "tags": ["a"],
            "meta": {"k": "v"},
            "ttl": 0,
            "weight": 0,
            "lease": 30,
        },
    )
    async with source(tmp_path, clock) as held:
        await held.put(full)
        await held.put(registration("gone"))
        await held.delete("gone")
    clock.now += 3600  # the server was down for far longer than the lease
    async with source(tmp_path, clock) as held:
        assert known(held) == {"full": full}
        assert held._deadlines == {"full": clock.now + 30}


async def run_until(held: LeaseSource, condition: Any) -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(held.run(), name="leases")
        await until_async(condition)
        task.cancel()


async def test_a_lease_ends_unless_it_is_renewed(tmp_path: Path) -> None:
    clock = Clock()
    async with source(tmp_path, clock) as held:
        for ident, lease in (("short", 10), ("renewed", 10), ("forever", None)):
            await held.put(registration(ident, lease=lease))
        clock.now += 9
        renewed = held.renew("renewed")
        assert renewed
        assert renewed.lease == 10
        clock.now += 2
        await run_until(held, lambda: "short" not in known(held))
        assert sorted(known(held)) == ["forever", "renewed"]
        assert held.renew("short") is None
        assert (held.expired, held.leases) == (1, 1)
    async with source(tmp_path, clock) as again:
        assert sorted(known(again)) == ["forever", "renewed"]


async def test_a_shorter_lease_is_noticed_while_a_longer_one_is_waited_for() -> None:
    async with source() as held:
        held._clock = asyncio.get_running_loop().time
        await held.put(registration("long", lease=3000))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(held.run(), name="leases")
            await until_async(lambda: held._wakes_at < float("inf"))
            await held.put(registration("short", lease=1))
            await until_async(lambda: "short" not in known(held))
            task.cancel()


async def test_a_lease_that_ends_while_it_is_replaced_takes_nothing_along(tmp_path: Path) -> None:
    """The new word is on its way to the disk when the old lease is over: the new word stands."""
    clock = Clock()
    async with source(tmp_path, clock) as held:
        await held.put(registration(lease=5))
        clock.now += 6
        async with asyncio.TaskGroup() as group:
            replaced = group.create_task(held.put(registration(lease=50)), name="put")
            await until_async(lambda: held._unwritten["a"] or replaced.done())
            held._expire("a") if held._unwritten["a"] else None
        assert known(held)["a"].lease == 50
    async with source(tmp_path, clock) as again:
        assert known(again)["a"].lease == 50


async def test_many_at_once_are_all_kept(tmp_path: Path) -> None:
    async with source(tmp_path) as held:
        told = await asyncio.gather(*(held.put(registration(f"i{n}")) for n in range(1200)))
        assert all(told)
    async with source(tmp_path) as again:
        assert len(known(again)) == 1200


async def test_the_number_of_registrations_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "REGISTRATIONS_MOST", 2)
    async with source() as held:
        await held.put(registration("a"))
        await held.put(registration("b"))
        with pytest.raises(FullError, match="2 instances"):
            await held.put(registration("c"))
        assert not await held.put(registration("a", weight=5))  # what is there can still be replaced


class BrokenLedger(Ledger):
    def apply(self, changes: Any) -> None:
        raise sqlite3.OperationalError("disk I/O error")


async def test_what_the_disk_does_not_take_is_not_published(tmp_path: Path) -> None:
    real = open_ledger(tmp_path)
    held = LeaseSource(Registry().writer("registered", "registered"))
    held.load(BrokenLedger(real._connection, real.path))
    with pytest.raises(NotKeptError, match="disk I/O error"):
        await held.put(registration())
    assert not known(held)
    await held.close()


# -- the ledger --------------------------------------------------------------------------------------


def test_a_change_is_all_or_nothing(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    ledger.apply([("a", "1"), ("b", "2")])
    bad: Any = [("c", "3"), ("d", object())]
    with pytest.raises(sqlite3.Error):
        ledger.apply(bad)
    ledger.apply([("a", None)])
    assert ledger.load() == {"b": "2"}
    ledger.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    with pytest.raises(LedgerError, match=r"another discoverd uses it; give each its own --state-dir"):
        open_ledger(tmp_path)
    ledger.close()
    open_ledger(tmp_path).close()


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database" * 500)


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE somebody_elses (x)")
    other.close()


def newer(path: Path) -> None:
    open_ledger(path.parent).close()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()


def torn(path: Path) -> None:
    ledger = open_ledger(path.parent)
    ledger.apply([(f"i{n}", "x" * 500) for n in range(200)])
    ledger.close()
    data = bytearray(path.read_bytes())
    data[4096 : len(data) // 2] = b"\xa5" * (len(data) // 2 - 4096)
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [garbage, foreign, newer, torn])
def test_a_file_that_cannot_be_read_is_set_aside(
    tmp_path: Path, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    damage(tmp_path / FILE)
    before = (tmp_path / FILE).read_bytes()
    ledger = open_ledger(tmp_path)
    assert ledger.load() == {}
    ledger.apply([("a", "1")])
    ledger.close()
    (aside,) = tmp_path.glob("*.damaged-*")
    assert aside.read_bytes() == before
    assert aside.name in caplog.text
    assert "\n" not in caplog.records[0].getMessage()
    assert open_ledger(tmp_path).load() == {"a": "1"}


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        LedgerError, match=r"cannot keep registrations in .*choose another --state-dir"
    ) as caught:
        open_ledger(tmp_path / "file" / "below")
    assert "\n" not in str(caught.value)


async def test_an_entry_that_cannot_be_used_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = open_ledger(tmp_path)
    ledger.apply(
        [("a", '{"service": "web", "addresses": ["10.0.0.1"]}'), ("b", "{"), ("c", '{"service": 7}')]
    )
    ledger.close()
    async with source(tmp_path) as held:
        assert list(known(held)) == ["a"]
    assert "the kept registration b cannot be used" in caplog.text
    ledger = open_ledger(tmp_path)
    assert list(ledger.load()) == ["a", "b", "c"]
    ledger.close()


# -- values ------------------------------------------------------------------------------------------


def test_json_and_back() -> None:
    one = parse("x", {"service": "WEB", "addresses": ["10.0.0.1"], "ports": ["http=80"], "lease": 5.0})
    assert one.service == "web"
    assert parse("x", json.loads(json.dumps(to_json(one)))) == one
    assert to_instance(one).source == "registered"


@pytest.mark.parametrize("ident", ["web", "web.1", "x" * 128, "a:b", "A-1", "1~"])
def test_unique_labels_are_labels_and_never_a_plain_name(ident: str) -> None:
    label = unique_label(ident)
    assert len(label) <= 63
    assert label != ident.lower()
    assert label == label.strip("-").lower()


def test_unique_labels_differ() -> None:
    ids = ["web.1", "web-1", "web:1", "WEB-1", "x" * 128, "x" * 127]
    assert len({unique_label(i) for i in ids}) == len(ids)
