"""From the registry to the disk and back, by what can go wrong on the way."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from discoverd.catalog import Catalog, Endpoint, Node
from discoverd.model import Instance, Network, SourceState
from discoverd.registry import Registry
from discoverd.warm import Followed, Keeper, files, keeper
from tests.build import ENGINE
from tests.real.debian import REPO
from tests.wait import until_async

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from discoverd.registry import Writer
    from discoverd.warm.codec import Known

KILLS = int(os.environ.get("DISCOVERD_TEST_KILLS", "100"))
SOURCE = Followed(ENGINE, "settings")
NETWORK = Network(f"{ENGINE}/n", "shop", (ip_network("172.18.0.0/16"),))


def instance(ident: str) -> Instance:
    return Instance(ident, "web", ENGINE)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


class Process:
    """What stands for one life of a server: a registry of its own and a keeper on a shared folder."""

    def __init__(self, folder: Path, most: float = 3600) -> None:
        self.registry, self.catalog = Registry(), Catalog()
        self.writer: Writer = self.registry.writer(ENGINE, "docker")
        self.keeper = Keeper(self.registry, self.catalog, folder, most)

    async def begin(self, source: Followed = SOURCE) -> None:
        await self.keeper.begin(source, self.writer)

    def ids(self) -> set[str]:
        return {i.id for i in self.registry.instances()}

    def state(self) -> SourceState:
        return self.registry.status(ENGINE).state


async def lived(folder: Path) -> None:
    """A process that was in step with two instances and a network."""
    first = Process(folder)
    await first.begin()
    first.writer.networks([NETWORK])
    first.writer.replace({"a": [instance("a")], "b": [instance("b")]})
    first.writer.status(SourceState.LIVE)
    await first.keeper.close()


async def test_what_was_known_is_stale_until_it_is_in_step(tmp_path: Path) -> None:
    await lived(tmp_path)
    second = Process(tmp_path)
    assert second.state() is SourceState.SYNCING
    await second.begin()
    assert second.ids() == {"a", "b"}
    assert list(second.registry.networks(ENGINE)) == [NETWORK]
    assert second.state() is SourceState.STALE
    assert second.registry.status(ENGINE).last_sync == pytest.approx(time.time(), abs=60)
    # nobody may be told that anything else does not exist
    assert second.registry.syncing == {ENGINE}
    second.writer.status(SourceState.SYNCING, "no such socket")
    assert second.state() is SourceState.STALE
    assert second.registry.status(ENGINE).last_error == "no such socket"
    second.writer.replace({"c": [instance("c")]})
    second.writer.status(SourceState.LIVE)
    assert second.ids() == {"c"}
    assert (second.state(), second.registry.syncing) == (SourceState.LIVE, frozenset())
    second.writer.status(SourceState.STALE, "gone")
    assert second.registry.syncing == frozenset()
    await second.keeper.close()
    third = Process(tmp_path)
    await third.begin()
    assert third.ids() == {"c"}


async def test_a_start_that_never_reaches_its_source_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    await lived(tmp_path)
    before = files.read(tmp_path, SOURCE, 3600)
    second = Process(tmp_path)
    await second.begin()
    second.writer.status(SourceState.SYNCING, "no such socket")
    await second.keeper.close()
    assert files.read(tmp_path, SOURCE, 3600) == before


class Ends:
    """When what was given back ends, and the end itself, which is then not waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        self._later = loop.call_later
        self.seconds: list[float] = []
        self._due: list[Callable[[], object]] = []
        monkeypatch.setattr(loop, "call_later", self._note)

    def _note(self, delay: float, call: Callable[..., object], *arguments: object) -> asyncio.TimerHandle:
        if getattr(call, "__name__", "") == "_give_up":
            self.seconds.append(delay)
            self._due.append(lambda: call(*arguments))
        return self._later(delay, call, *arguments)

    def come(self) -> None:
        for call in self._due:
            call()


async def test_it_is_given_up_when_it_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await lived(tmp_path)
    files.stamp(tmp_path, SOURCE, time.time() - 1600)
    ends = Ends(monkeypatch)
    second = Process(tmp_path)
    await second.begin()
    assert second.ids() == {"a", "b"}
    assert ends.seconds == [pytest.approx(2000, abs=300)]
    ends.come()
    assert second.ids() == set()
    assert second.state() is SourceState.SYNCING
    assert list(second.registry.networks()) == []
    assert "web" not in second.registry.names, "it is not gone, it is not known"


async def test_what_is_in_step_by_then_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await lived(tmp_path)
    ends = Ends(monkeypatch)
    second = Process(tmp_path)
    await second.begin()
    second.writer.status(SourceState.LIVE)
    ends.come()
    assert second.ids() == {"a", "b"}
    assert second.state() is SourceState.LIVE


async def test_other_settings_or_another_source_get_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await lived(tmp_path)
    second = Process(tmp_path)
    await second.begin(Followed(ENGINE, "another engine under the same name"))
    assert second.ids() == set()
    assert second.state() is SourceState.SYNCING
    path = files.path_of(tmp_path, SOURCE)
    assert not path.exists()
    assert path.with_name(path.name + ".set-aside").exists()
    (line,) = caplog.messages
    assert line.startswith(f"{path} is of another source, or of other settings: not used, kept as ")


@pytest.mark.parametrize("data", [b"", b"SQLite format 3\0", b'{"file": "discoverd last known"}\n' * 3])
async def test_a_file_that_is_none_is_set_aside(
    tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = files.path_of(tmp_path, SOURCE)
    for _ in range(2):  # the second takes the place of the first: what is set aside does not add up
        path.write_bytes(data)
        second = Process(tmp_path)
        await second.begin()
        assert second.state() is SourceState.SYNCING
    assert names(tmp_path) == [f"{path.name}.set-aside"]
    assert [r.levelno for r in caplog.records] == [logging.WARNING] * 2


async def test_changes_are_written_while_it_runs_and_many_of_them_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "SETTLE", 0.2)
    writes: list[int] = []
    write = files.write

    def counted(folder: Path, source: Followed, known: Known, as_of: float) -> None:
        write(folder, source, known, as_of)
        writes.append(len(known.objects))

    monkeypatch.setattr(files, "write", counted)
    first = Process(tmp_path)
    await first.begin()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(first.keeper.run(), name="keeper")
        first.writer.status(SourceState.LIVE)
        for number in range(500):
            first.writer.publish(str(number), [instance(str(number))])
        await until_async(lambda: writes[-1:] == [500])
        running.cancel()
    assert len(writes) <= 2
    found = files.read(tmp_path, SOURCE, 60)
    assert found
    assert len(found.known.objects) == 500


@contextmanager
def full_disk(path: Path) -> Generator[None]:
    """A file system of 64 kB at ``path``."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "discoverd-test", path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


async def keep(process: Process) -> None:
    process.writer.status(SourceState.LIVE)
    for number in range(5):
        process.writer.publish(f"later {number}", [instance(f"later {number}")])
        await process.keeper._write_all()


async def test_a_full_disk_is_one_line_and_its_end_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "discoverd")
    with full_disk(tmp_path):
        await lived(tmp_path)
        process = Process(tmp_path)
        await process.begin()
        caplog.clear()
        (tmp_path / "hog").write_bytes(b"x" * 1000)
        process.writer.publish("large", [Instance(f"{i}" * 50, "web", ENGINE) for i in range(1000)])
        await keep(process)
        (line,) = caplog.messages
        assert (
            line
            == f"what sources say cannot be kept in {tmp_path}: No space left on device; all else goes on"
        )
        # what was kept before is whole
        assert files.read(tmp_path, SOURCE, 3600)
        assert set(names(tmp_path)) == {files.path_of(tmp_path, SOURCE).name, "hog"}
        process.writer.publish("large", ())
        await process.keeper._write_all()
        assert caplog.messages[1:] == [f"what sources say is kept in {tmp_path} again"]


async def test_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "no folder"
    folder.write_text("a file in its place")
    process = Process(folder)
    await process.begin()
    caplog.clear()
    await keep(process)
    (line,) = caplog.messages
    assert line.startswith(f"what sources say cannot be kept in {folder}: ")


async def test_a_catalog_comes_back_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Followed("consul", "settings", "")
    node = Node("n1", "10.0.0.1", "dc1")
    first, writer = Process(tmp_path), None
    writer = first.registry.writer("consul", "consul")
    await first.keeper.begin(source, writer)
    first.catalog.home, first.catalog.datacenters = "dc1", frozenset({"dc1", "dc2"})
    first.catalog.follow("dc1")
    writer.status(SourceState.LIVE)
    first.catalog.set_nodes("dc1", {"n1": node})
    first.catalog.set_service("dc1", "web", (Endpoint(node, "web", "web", port=80),))
    await first.keeper.close()

    ends = Ends(monkeypatch)
    second = Process(tmp_path)
    told: list[str] = []
    second.catalog.subscribe(told.extend)
    await second.keeper.begin(source, second.registry.writer("consul", "consul"))
    assert (second.catalog.home, second.catalog.datacenters) == ("dc1", frozenset({"dc1", "dc2"}))
    held = second.catalog.at("dc1")
    assert held
    assert (held.restored, held.synced) == (True, False)
    assert held.addresses == {"10.0.0.1": node}
    assert [e.node for e in held.services["web"]] == [node]
    ends.come()
    assert not held.restored
    assert (held.services, held.nodes, held.addresses) == ({}, {}, {})
    assert told == ["web.service.dc1.consul", "n1.node.dc1.consul"]


def test_being_killed_at_any_moment_leaves_a_file_that_is_whole(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    command = [sys.executable, "-m", "tests.warm.killed", str(tmp_path), str(KILLS)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=280, check=True)
    said = json.loads(done.stdout)
    assert said["wrong"] == []
    assert said["states"] >= KILLS
    record_property("measured SIGKILLs while a source's last words are written", KILLS)
