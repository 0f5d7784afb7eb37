"""A server that starts while its engine or Consul's agent is away answers with what was last known."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING

from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.real.consul import ConsulAgent
    from tests.real.engine import HostedEngine
    from tests.real.server import Server

    Start = Callable[..., Server]


def wait_kept(state: Path, *texts: str) -> Path:
    """Until what is on disk has these in it; the file."""

    def has() -> Path | None:
        for path in (state / "last-known").glob("*.jsonl"):
            kept = path.read_text()
            if all(text in kept for text in texts):
                return path
        return None

    found = until(has, message=f"{texts} are kept in {state}")
    assert found
    return found


def killed(server: Server) -> None:
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()


def test_what_an_engine_last_said_is_served_until_it_is_back(
    own_engine: HostedEngine, discoverd: Start, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    flags = ("--state-dir", str(state))
    network = own_engine.docker("network", "create", "side")
    for name in ("front", "back"):
        own_engine.run(name, "--network", "side")
    server = discoverd(*flags, docker=own_engine)
    server.wait_source("live")
    live = {name: server.dig(f"{name}.docker").addresses for name in ("front", "back")}
    assert all(live.values())
    (client,) = live["back"]
    view = server.api(f"/v1/resolve?name=front.docker&client={client}").json["view"]
    assert network in str(view), "the asker is known by its network"
    wait_kept(state, '"front"', '"back"', network)

    own_engine.kill()
    killed(server)
    server = discoverd(*flags, docker=own_engine)
    assert server.source()["state"] == "stale"
    assert server.source()["instances"] == 2
    for name, addresses in live.items():
        reply = server.dig(f"{name}.docker")
        assert reply.addresses == addresses, reply.text
        assert all(record.ttl <= 5 for record in reply.answer)
    said = server.api(f"/v1/resolve?name=front.docker&client={client}").json
    assert said["view"] == view, "who asks is told apart as before"
    # what was not known may exist by now: nobody is told that it does not
    assert server.dig("new.docker").status == "SERVFAIL"
    assert server.api("/readyz").status == 200
    until(lambda: server.source()["last_error"], message="why it is not in step")
    assert server.source()["state"] == "stale"

    # a restart meanwhile changes nothing, and it is over when the engine says what there is
    killed(server)
    server = discoverd(*flags, docker=own_engine)
    assert server.dig("front.docker").addresses == live["front"]
    server.freeze()
    own_engine.start()
    own_engine.docker("rm", "--force", "back")
    own_engine.run("new", "--network", "side")
    server.thaw()
    server.wait_source("live")
    until(lambda: server.dig("new.docker").addresses, message="the new one is served")
    server.wait_answer("back.docker", set())
    wait_kept(state, '"new"')


def test_another_engine_by_the_same_name_gets_nothing_and_all_ends_in_time(
    own_engine: HostedEngine, discoverd: Start, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    flags = ("--state-dir", str(state))
    own_engine.run("one")
    server = discoverd(*flags, docker=own_engine)
    server.wait_source("live")
    path = wait_kept(state, '"one"')
    assert server.terminate() == 0
    before = tmp_path / "before"
    shutil.copy(path, before)

    elsewhere = f"unix://{tmp_path}/no.sock"
    server = discoverd(*flags, docker=elsewhere)
    assert server.dig("one.docker").status == "SERVFAIL"
    assert server.source()["state"] == "syncing"
    assert "of other settings: not used, kept as docker%2Flocal.jsonl.set-aside" in server.log_text
    assert server.terminate() == 0

    # the same engine again, and away: served for as long as configured, then not
    own_engine.kill()
    for seconds in (5, 20, 60):  # a machine may take that long to start a process
        shutil.copy(before, path)
        os.utime(path)
        server = discoverd(*flags, docker=own_engine, config=f"max_stale = {seconds}")
        if "are served until it is reached" in server.log_text:
            break
        assert "too old" in server.log_text
        killed(server)
    until(lambda: server.source()["state"] == "syncing", timeout=seconds + 30)
    assert server.dig("one.docker").status == "SERVFAIL"
    assert server.api("/readyz").status == 503
    assert "out of reach for too long" in server.log_text
    assert server.terminate() == 0

    # and off is off
    os.utime(path)
    server = discoverd(*flags, docker=own_engine, config="max_stale = 0")
    assert server.dig("one.docker").status == "SERVFAIL"


def test_what_consul_last_said_is_served_until_it_is_back(
    consul_agent: ConsulAgent, discoverd: Start, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    flags = ("--state-dir", str(state), "--consul", consul_agent.url)
    body = {"Name": "web", "ID": "web-1", "Address": "10.1.2.3", "Port": 8080, "Tags": ["v1"]}
    assert consul_agent.api("/v1/agent/service/register", "PUT", body).status == 200
    server = discoverd(*flags)
    server.wait_source("live", "consul")
    questions = (
        ("web.docker", "A"),
        ("web.docker", "SRV"),
        ("web.service.consul", "A"),
        ("v1.web.service.dc1.consul", "SRV"),
        ("dev.node.consul", "A"),
    )
    live = {asked: server.dig(*asked).data for asked in questions}
    assert live["web.docker", "A"] == live["web.service.consul", "A"] == ["10.1.2.3"]
    assert all(live.values()), live
    wait_kept(state, '"service":"web"', '"name":"dev"', '"object":"web"')

    consul_agent.kill()
    killed(server)
    server = discoverd(*flags)
    assert server.source("consul")["state"] == "stale"
    assert {asked: server.dig(*asked).data for asked in questions} == live
    for unknown in ("other.docker", "other.service.consul", "other.node.consul"):
        assert server.dig(unknown).status == "SERVFAIL"
    assert server.dig("web.service.elsewhere.consul").nxdomain, "there was no such datacenter"

    # a dev agent has forgotten everything: what is there now replaces what was known
    server.freeze()
    consul_agent.start()
    new = {"Name": "other", "Address": "10.1.2.4", "Port": 80}
    assert consul_agent.api("/v1/agent/service/register", "PUT", new).status == 200
    server.thaw()
    server.wait_source("live", "consul")
    server.wait_answer("other.docker", {"10.1.2.4"})
    assert server.dig("other.service.consul").data == ["10.1.2.4"]
    server.wait_answer("web.docker", set())
    assert server.dig("web.service.consul").status == "NXDOMAIN"
