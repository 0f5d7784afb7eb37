"""The rules of the index: what of an answer is believed, and by whom a doubtful one is confirmed.

What a query is answered is a script here: servers that are behind for a moment cannot be had at will.
https://developer.hashicorp.com/consul/api-docs/features/blocking
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from discoverd.sources.consul import watch as watching
from discoverd.sources.consul.adapter import Index
from discoverd.sources.consul.errors import AwayError
from discoverd.sources.consul.link import Link
from discoverd.sources.consul.pace import Retry
from discoverd.sources.consul.pulse import Pulse
from discoverd.sources.consul.settings import ConsulSettings
from discoverd.sources.consul.watch import Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from discoverd.sources.consul.adapter import Client

END = "end"
#: Who was asked, with which index, and the index and value of the answer; no index: it fails.
Turn = tuple[str, int, int | None, str]


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    link = Link(ConsulSettings(url="http://127.0.0.1:1"))
    yield link
    await link.close()


class Open(Pulse):
    """It can always be asked."""

    async def ready(self) -> None:
        return


class Played:
    """What a watch made of a script."""

    def __init__(self) -> None:
        self.applied: list[str] = []
        self.behind: list[bool] = []
        self.resets = 0


async def play(
    link: Link,
    monkeypatch: pytest.MonkeyPatch,
    *turns: Turn,
    floor: int = 0,
    over: Callable[[], bool] = lambda: False,
) -> Played:
    """Run a watch through a script, up to the value END or until it is over."""
    pulse = Open("consul", link.control, "dc1", lambda: None)
    monkeypatch.setattr(Retry, "failed", lambda _retry: 0.0)
    names = {id(link.control): "any", id(link.watching): "wait", id(link.exact): "exact"}
    script, played = iter(turns), Played()

    async def ask(client: Client, index: int) -> tuple[Index, str]:
        who, asked, new, value = next(script)
        assert (names[id(client)], index) == (who, asked)
        if new is None:
            raise AwayError(value)
        return Index.of({"X-Consul-Index": str(new)}), value

    async def apply(value: str) -> bool:
        played.applied.append(value)
        return value == END

    def told(watch: Watch[str]) -> None:
        played.behind.append(watch.behind)

    watch = Watch(link, pulse, ask, apply, told, over=over, floor=floor)
    async with asyncio.timeout(30):
        await watch.run()
    assert next(script, None) is None
    played.resets = watch.resets
    return played


async def test_each_answer_is_waited_on_with_its_index(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    played = await play(
        link, monkeypatch,
        ("any", 0, 5, "a"), ("wait", 5, 7, "b"), ("wait", 7, 9, END),
    )  # fmt: skip
    assert (played.applied, played.behind, played.resets) == (["a", "b", END], [False], 0)


async def test_what_is_below_one_counts_as_one(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    await play(link, monkeypatch, ("any", 0, 0, "a"), ("wait", 1, 2, END))


async def test_an_answer_without_news_is_asked_again_from_the_beginning(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that stops answers so, and one that was given an older state counts from less."""
    played = await play(
        link, monkeypatch,
        ("any", 0, 5, "a"), ("wait", 5, 5, "a"), ("any", 0, 6, END),
    )  # fmt: skip
    assert played.applied == ["a", END]


async def test_an_index_that_goes_backwards_is_the_leaders_to_explain(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = await play(
        link, monkeypatch,
        ("any", 0, 5, "a"), ("wait", 5, 3, "old"), ("exact", 0, 3, "anew"), ("wait", 3, 4, END),
    )  # fmt: skip
    assert (played.applied, played.resets) == (["a", "anew", END], 1)


async def test_after_a_failure_a_server_that_is_behind_is_not_believed(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an election: the leader died, and the next best server has not heard of all that it knew."""
    played = await play(
        link, monkeypatch,
        ("any", 0, 12, "a"), ("wait", 12, None, "EOF"),
        ("any", 0, 11, "old"), ("exact", 0, None, "no leader"),
        ("any", 0, 11, "old"), ("exact", 0, 12, "a"),
        ("wait", 12, 13, END),
    )  # fmt: skip
    assert (played.applied, played.behind, played.resets) == (["a", "a", END], [False, True, False], 0)


async def test_an_agent_that_began_anew_is_believed(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    played = await play(
        link, monkeypatch,
        ("any", 0, 73, "a"), ("wait", 73, None, "refused"),
        ("any", 0, 13, "anew"), ("exact", 0, 13, "anew"), ("wait", 13, None, "refused"),
        ("any", 0, 14, END),
    )  # fmt: skip
    assert (played.applied, played.resets) == (["a", "anew", END], 1)


async def test_what_was_known_before_counts(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that was polled, and is followed by itself from now on."""
    played = await play(link, monkeypatch, ("any", 0, 8, "old"), ("exact", 0, 9, END), floor=9)
    assert played.applied == [END]


async def test_what_is_over_without_an_answer_that_says_so_ends_at_the_next_wait(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service loses its last instance, and is seen to be gone only after that: its query gets no more."""
    monkeypatch.setattr(watching, "EARLY", 0.0)  # every query has waited for as long as it was to
    ends = iter([False, True])
    played = await play(
        link, monkeypatch,
        ("any", 0, 5, "a"), ("wait", 5, 7, "none"), ("wait", 7, 7, "none"), ("wait", 7, 7, "none"),
        over=lambda: next(ends),
    )  # fmt: skip
    assert played.applied == ["a", "none"]
