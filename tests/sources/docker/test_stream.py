from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from discoverd.sources.docker.fault import EngineAwayError
from discoverd.sources.docker.stream import Batch, Mailbox, note, read

if TYPE_CHECKING:
    from collections.abc import Iterator


def event(kind: str, action: str, actor: str = "c1", **attributes: str) -> dict[str, Any]:
    return {
        "Type": kind,
        "Action": action,
        "Actor": {"ID": actor, "Attributes": attributes},
        "scope": "local",
    }


def noted(*events: Any) -> Batch:
    batch = Batch()
    for one in events:
        note(one, batch)
    return batch


@pytest.mark.parametrize(
    "action",
    ["create", "start", "stop", "destroy", "rename", "pause", "health_status: healthy", "remove", "new one"],
)
def test_an_event_says_where_to_look(action: str) -> None:
    assert noted(event("container", action)) == Batch(dirty={"c1": None})


def test_a_network_event_names_its_container() -> None:
    assert noted(event("network", "connect", "n1", container="c1", name="na")) == Batch(dirty={"c1": None})
    assert noted(event("network", "disconnect", "c1")) == Batch(dirty={"c1": None})  # Podman
    assert noted(event("network", "create", "n1")) == Batch(networks=True)
    assert noted(event("network", "destroy", "n1")) == Batch(networks=True)


def test_kills_keep_their_order_and_are_no_reason_to_look() -> None:
    batch = noted(event("container", "kill", signal="1"), event("container", "kill", "c2", signal="15"))
    assert batch == Batch(kills=[("c1", "1"), ("c2", "15")])


def test_a_death_counts_unless_a_start_followed() -> None:
    died = noted(event("container", "die", exitCode="137"))
    assert died == Batch(dirty={"c1": None}, deaths={"c1": None})
    assert noted(event("container", "die"), event("container", "start")) == Batch(dirty={"c1": None})
    assert noted(event("container", "start"), event("container", "die")).deaths == {"c1": None}


@pytest.mark.parametrize(
    "odd",
    [
        {},
        event("container", "exec_create: sh"),
        event("container", "exec_die"),
        event("image", "pull"),
        event("container", "start", ""),
        {"Type": "container", "Action": None, "Actor": None},
        {"Type": 7, "Actor": {"ID": ["x"]}},
        {"status": "start", "id": "c1"},
    ],
)
def test_other_events_ask_for_nothing(odd: Any) -> None:
    batch = Batch()
    assert note(odd, batch) is False
    assert batch == Batch()


def test_labels_cannot_forge_which_container_it_is() -> None:
    forged = event("container", "start", "c1", container="c9", id="c9", signal="9")
    assert noted(forged) == Batch(dirty={"c1": None})


async def test_a_mailbox_takes_in_any_number_of_events_and_gives_each_container_once() -> None:
    mailbox = Mailbox(asyncio.get_running_loop())
    feed = [event("container", "start", f"c{n % 7}") for n in range(5000)] + [event("image", "pull")]
    thread = threading.Thread(target=read, args=(feed, mailbox))
    thread.start()
    seen: set[str] = set()
    while True:
        batch = await mailbox.take()
        seen |= batch.dirty.keys()
        assert len(batch.dirty) <= 7
        if batch.ended:
            break
    thread.join()
    assert batch.error is None
    assert seen == {f"c{n}" for n in range(7)}
    assert mailbox.events == 5000


@pytest.mark.parametrize("failure", [EngineAwayError("the engine ended the stream"), RuntimeError("boom")])
async def test_the_end_of_a_stream_is_always_told(failure: Exception) -> None:
    def feed() -> Iterator[dict[str, Any]]:
        yield event("container", "die")
        raise failure

    mailbox = Mailbox(asyncio.get_running_loop())
    await asyncio.to_thread(read, feed(), mailbox)
    batch = await mailbox.take()
    assert batch.dirty == {"c1": None}
    assert batch.ended
    assert str(failure) in str(batch.error)
    assert isinstance(batch.error, EngineAwayError)


async def test_the_first_reason_stays() -> None:
    mailbox = Mailbox(asyncio.get_running_loop())
    mailbox.end(EngineAwayError("first"))
    mailbox.end(None)
    assert str((await mailbox.take()).error) == "first"


def test_a_thread_outlives_its_loop_in_silence() -> None:
    loop = asyncio.new_event_loop()
    mailbox = Mailbox(loop)
    loop.close()
    read([event("container", "start")], mailbox)
    assert mailbox.events == 1
