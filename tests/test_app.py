"""The whole server in this process: start, stop, reload, and what it says when it cannot start."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import dns.asyncquery
import dns.message
import dns.rcode
import pytest

from discoverd.app import App
from discoverd.config import load
from discoverd.config.endpoints import parse_listen
from discoverd.wiring import StartError, engines_of, hosts_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from discoverd.config import Config

QUIET: dict[str, Any] = {
    "listen": ["127.0.0.1:0"],
    "http": "off",
    "docker": ["off"],
    "upstream": ["off"],
    "state_dir": "off",
}

WEB = """
[[service]]
name = "web"
addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
port = 80
"""


def configured(folder: Path, text: str = "", **flags: Any) -> Config:
    (folder / "discoverd.toml").write_text(text)
    return load({**QUIET, **flags}, {}, folder)


@asynccontextmanager
async def serving(config: Config) -> AsyncIterator[App]:
    app = App(config)
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


async def ask(app: App, name: str, rtype: str = "A", *, tcp: bool = False) -> dns.message.Message:
    exchange = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    listener = app.listeners[0]
    question = dns.message.make_query(name, rtype)
    return await exchange(question, listener.host, timeout=5, port=listener.port)


def addresses(reply: dns.message.Message) -> list[str]:
    return [str(r) for rrset in reply.answer for r in rrset]


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
async def test_n_questions_put_every_instance_first_once(tmp_path: Path, *, tcp: bool) -> None:
    async with serving(configured(tmp_path, WEB)) as app:
        replies = [addresses(await ask(app, "web.docker", tcp=tcp)) for _ in range(6)]
    assert sorted(r[0] for r in replies[:3]) == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert [r[0] for r in replies[3:]] == [r[0] for r in replies[:3]]
    assert all(sorted(r) == ["192.0.2.1", "192.0.2.2", "192.0.2.3"] for r in replies)


async def test_udp_and_tcp_share_one_rotation(tmp_path: Path) -> None:
    async with serving(configured(tmp_path, WEB)) as app:
        first = [addresses(await ask(app, "web.docker", tcp=bool(i % 2)))[0] for i in range(3)]
    assert sorted(first) == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]


async def test_a_reload_changes_answers_that_were_kept(tmp_path: Path) -> None:
    async with serving(configured(tmp_path, WEB)) as app:
        await ask(app, "web.docker")
        app.reload(lambda: configured(tmp_path, WEB.replace("192.0.2.1", "192.0.2.99"), ttl="77"))
        reply = await ask(app, "web.docker")
    assert sorted(addresses(reply)) == ["192.0.2.2", "192.0.2.3", "192.0.2.99"]
    assert reply.answer[0].ttl == 77


async def test_a_wrong_reload_keeps_what_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(configured(tmp_path, WEB)) as app:
        app.reload(lambda: configured(tmp_path, WEB.replace('"web"', "7")))
        reply = await ask(app, "web.docker")
    assert len(addresses(reply)) == 3
    assert "the running configuration is kept" in caplog.text
    assert "discoverd.toml:3" in caplog.text


async def test_what_a_reload_cannot_change_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    changed = '[dns]\nudp_size = 4096\n[log]\nformat = "json"\n[http]\ntoken = "hush"\n'
    async with serving(configured(tmp_path, WEB)) as app:
        app.reload(lambda: configured(tmp_path, WEB + changed))
        reply = await ask(app, "web.docker")
    assert len(addresses(reply)) == 3
    for key in ("dns.udp_size", "log.format", "http"):
        assert f"{key} has changed: it takes effect at the next start" in caplog.messages
    assert sum("takes effect" in message for message in caplog.messages) == 3


async def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        with pytest.raises(StartError, match=rf"cannot listen on 127.0.0.1:{port} \(UDP\).*in use") as caught:
            await App(configured(tmp_path, listen=[f"127.0.0.1:{port}"])).start()
    assert "\n" not in str(caught.value)


async def test_a_failed_start_leaves_nothing_bound(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        app = App(configured(tmp_path, http=f"127.0.0.1:{taken}"))
        with pytest.raises(StartError, match=f"127.0.0.1:{taken} \\(HTTP\\)"):
            await app.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(("127.0.0.1", app.listeners[0].port))


async def test_all_sockets_are_free_after_a_stop(tmp_path: Path) -> None:
    async with serving(configured(tmp_path, http="127.0.0.1:0")) as app:
        await ask(app, "nobody.docker")
        port = app.listeners[0].port
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", port))
    others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
    assert not others


async def test_foreign_names_are_refused_without_an_upstream(tmp_path: Path) -> None:
    async with serving(configured(tmp_path)) as app:
        reply = await ask(app, "example.com")
    assert reply.rcode() == dns.rcode.REFUSED


async def test_one_discoverd_forwards_to_another(tmp_path: Path) -> None:
    async with serving(configured(tmp_path, WEB, domain=["far"])) as far:
        upstream = f"127.0.0.1:{far.listeners[0].port}"
        async with serving(configured(tmp_path, upstream=[upstream])) as near:
            over_udp, over_tcp = await ask(near, "web.far"), await ask(near, "web.far", tcp=True)
    assert len(addresses(over_udp)) == len(addresses(over_tcp)) == 3


async def test_names_of_local_meaning_are_not_sent_upstream(tmp_path: Path) -> None:
    async with serving(configured(tmp_path, WEB, domain=["local"])) as far:
        upstream = f"127.0.0.1:{far.listeners[0].port}"
        async with serving(configured(tmp_path, upstream=[upstream])) as near:
            reply = await ask(near, "web.local")
            counted = far.server.udp[0].slow if far.server else -1
    assert reply.rcode() == dns.rcode.NXDOMAIN
    assert counted == 0


def test_engines_have_names_of_their_own(tmp_path: Path) -> None:
    urls = ["unix:///run/a.sock", "unix:///run/b.sock", "tcp://10.0.0.5:2375", "tcp://10.0.0.5:2376"]
    names = [e.name for e in engines_of(configured(tmp_path, docker=urls))]
    assert len(set(names)) == 4
    assert names[0] == "local"
    assert names[2] == "10-0-0-5"


def test_a_bare_port_is_both_wildcards() -> None:
    assert hosts_of(parse_listen(":53")) == ("0.0.0.0", "::")
    assert hosts_of(parse_listen("[::1]:53")) == ("::1",)
