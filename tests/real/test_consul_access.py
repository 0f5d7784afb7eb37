"""Who may: ACL tokens, a private authority, client certificates."""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING

from tests.real.consul import binary
from tests.real.following import following
from tests.real.rest import request
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from tests.real.consul import ConsulAgent

MASTER = "m" * 36
HEADERS = {"X-Consul-Token": MASTER}
ACL = {"acl": {"enabled": True, "default_policy": "deny", "tokens": {"master": MASTER}}}
NODES = 'node_prefix "" { policy = "read" }'
READ = f'service_prefix "" {{ policy = "read" }} {NODES}'


def _policy(agent: ConsulAgent, rules: str, known: str = "", name: str = "reader") -> str:
    """Make a policy, or change the one with this id; its id."""
    body = {"Name": name, "Rules": rules}
    reply = request(
        "PUT",
        f"{agent.url}/v1/acl/policy{'/' + known if known else ''}",
        body | ({"ID": known} if known else {}),
        HEADERS,
    )
    assert reply.status == 200, reply.text
    return str(reply.json["ID"])


def _token(agent: ConsulAgent, policy: str) -> tuple[str, str]:
    """A token for a policy: its accessor, and its secret."""
    reply = request("PUT", f"{agent.url}/v1/acl/token", {"Policies": [{"ID": policy}]}, HEADERS)
    assert reply.status == 200, reply.text
    return str(reply.json["AccessorID"]), str(reply.json["SecretID"])


def _register_as_master(agent: ConsulAgent, name: str, address: str) -> None:
    body = {"Node": "ext", "Address": "10.9.9.9", "Service": {"Service": name, "Address": address}}
    headers = HEADERS
    assert request("PUT", f"{agent.url}/v1/catalog/register", body, headers).status == 200


async def test_a_token_decides_what_is_seen_and_losing_it_loses_nothing(
    consul_agents: Callable[..., ConsulAgent], caplog: pytest.LogCaptureFixture
) -> None:
    agent = consul_agents("dev", ACL)
    await asyncio.to_thread(start_with_acl, agent)
    _register_as_master(agent, "web", "10.0.0.1")
    policy = _policy(agent, READ)
    accessor, secret = _token(agent, policy)

    async with following(agent, token="x" * 36) as followed:
        await followed.until(lambda: followed.status().last_error, "why it is not let in")
        assert followed.status().state == "syncing"
        assert "403: ACL not found" in str(followed.status().last_error)

    async with following(agent, token=_token(agent, _policy(agent, NODES, name="nodes"))[1]) as followed:
        await followed.until(
            lambda: "not even consul" in str(followed.status().last_error), "why it is empty"
        )
        assert followed.status().state == "syncing", "what one may not see is not denied to others"

    async with following(agent, token=secret) as followed:
        await followed.state("live")
        assert followed.addresses("web") == {"10.0.0.1"}
        _policy(agent, NODES, policy)  # as if nothing were there any more
        status = await followed.state("stale")
        assert "the token has lost its rights" in str(status.last_error)
        _register_as_master(agent, "web", "10.0.0.2")
        assert followed.addresses("web") == {"10.0.0.1"}
        _policy(agent, READ, policy)
        await followed.state("live")
        await followed.until(lambda: followed.addresses("web") == {"10.0.0.2"}, "the new address")
        gone = request("DELETE", f"{agent.url}/v1/acl/token/{accessor}", headers=HEADERS)
        assert gone.status == 200
        status = await followed.state("stale")
        assert "403: ACL not found" in str(status.last_error)
        assert followed.addresses("web") == {"10.0.0.2"}
    assert secret not in caplog.text


def start_with_acl(agent: ConsulAgent) -> None:
    """Start an agent that tells nobody about its nodes, and wait for its ACL system."""
    agent.launch()

    def ready() -> bool:
        try:
            headers = HEADERS
            nodes = request("GET", f"{agent.url}/v1/catalog/nodes", headers=headers)
            return nodes.status == 200 and len(nodes.json) > 0
        except (OSError, ValueError):
            return False

    until(ready, timeout=60, message=lambda: f"the agent with ACLs is ready:\n{agent.log_text}")


def _certificates(folder: Path) -> None:
    """An authority, a server's and a client's certificate, and an authority that signed neither."""

    def consul(*arguments: str) -> None:
        subprocess.run([binary(), "tls", *arguments], cwd=folder, check=True, capture_output=True)

    folder.mkdir()
    consul("ca", "create", "-domain", "other")
    consul("ca", "create")
    consul("cert", "create", "-server")
    consul("cert", "create", "-client")


async def test_a_private_authority_and_client_certificates(
    consul_agents: Callable[..., ConsulAgent], tmp_path: Path
) -> None:
    agent = consul_agents("dev")
    folder = tmp_path / "certificates"
    _certificates(folder)
    agent.config["ports"]["https"] = https = agent.config["ports"]["serf_wan"]
    agent.config["ports"]["serf_wan"] = -1
    agent.config |= {
        "ca_file": str(folder / "consul-agent-ca.pem"),
        "cert_file": str(folder / "dc1-server-consul-0.pem"),
        "key_file": str(folder / "dc1-server-consul-0-key.pem"),
        "verify_incoming_https": True,
    }
    await asyncio.to_thread(agent.start)
    url = f"https://127.0.0.1:{https}"
    right = {
        "tls_ca": str(folder / "consul-agent-ca.pem"),
        "tls_cert": str(folder / "dc1-client-consul-0.pem"),
        "tls_key": str(folder / "dc1-client-consul-0-key.pem"),
    }
    for good in (right, right | {"tls_server_name": "server.dc1.consul"}, right | {"tls_verify": False}):
        async with following(url, **good) as followed:
            await followed.state("live")
            assert followed.addresses("consul") == {"127.0.0.1"}
    missing = str(folder / "none.pem")
    wrong = (
        (right | {"tls_ca": str(folder / "other-agent-ca.pem")}, "certificate verify failed"),
        (right | {"tls_server_name": "elsewhere.example"}, "Hostname mismatch"),
        ({"tls_ca": right["tls_ca"]}, "cannot be reached: "),
        (right | {"tls_ca": missing}, f"{missing}: no certificate that can be used: No such file"),
        (right | {"tls_cert": str(folder / "dc1-server-consul-0.pem")}, "no certificate that can be used: "),
    )
    for settings, said in wrong:
        async with following(url, **settings) as followed:
            await followed.until(lambda: followed.status().last_error, "why it cannot")
            assert said in str(followed.status().last_error)
            assert followed.status().state == "syncing"
