"""``discoverd doctor``: what usually goes wrong, and how to mend each."""

from __future__ import annotations

import errno
import grp
import os
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discoverd.commands import probes
from discoverd.commands.client import Client, RefusedError, UnreachableError
from discoverd.commands.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from discoverd.config import Config

OK, WARNING, PROBLEM = "ok", "warning", "problem"
#: Containers that are looked at; more of them would say the same.
CONTAINERS_MOST = 50


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ``mend`` is empty where nothing is wrong."""

    check: str
    verdict: str
    found: str
    mend: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def table(findings: list[Finding]) -> Table:
    return Table(("CHECK", "", "FOUND", "MEND"), [(f.check, f.verdict, f.found, f.mend) for f in findings])


def examine(config: Config, client: Client) -> tuple[bool, list[Finding]]:
    """Whether the server was reached, and everything that was found."""
    server = list(_server(client))
    reached = server[0].verdict != PROBLEM
    findings = [*server]
    findings += [] if reached else _ports(config)
    findings += _engines(config)
    findings += _consul(config)
    findings += _upstreams(config)
    findings += _containers(config)
    return reached, findings


def _server(client: Client) -> Iterator[Finding]:
    try:
        said = client.get("v1", "sources")
    except (UnreachableError, RefusedError, TimeoutError) as error:
        yield Finding("server", PROBLEM, str(error), "start it: discoverd serve")
        return
    yield Finding("server", OK, f"{client.url} answers")
    if workers := said.get("workers"):
        yield _workers(workers)
    for source in said["sources"]:
        name = f"source {source['name']}"
        if source["state"] == "live":
            yield Finding(name, OK, f"live, {source['instances']} instances")
        else:
            found = f"{source['state']}: {source['last_error'] or 'its first sync is not complete'}"
            mend = "see what is found of its engine or agent below, and the server's log"
            yield Finding(name, PROBLEM if source["state"] == "syncing" else WARNING, found, mend)


def _workers(workers: list[dict[str, Any]]) -> Finding:
    answering, deaths = sum(w["answering"] for w in workers), sum(w["deaths"] for w in workers)
    found = f"{answering} of {len(workers)} answer, {deaths} have died since the start"
    if answering == len(workers) and not deaths:
        return Finding("workers", OK, found)
    return Finding("workers", WARNING, found, "the server's log says how they ended; it answers for them")


def _ports(config: Config) -> Iterator[Finding]:
    for endpoint in config.listen:
        name = f"listen {endpoint}"
        error = probes.bind_error(endpoint)
        if error is None:
            yield Finding(name, OK, "free")
        elif error.errno == errno.EADDRINUSE:
            who = ", ".join(probes.holders(endpoint.port)) or "a process of another user (root sees which)"
            mend = "stop it, or --listen on one other address instead"
            if "systemd-resolve" in who:
                mend = "DNSStubListener=no in /etc/systemd/resolved.conf, or --listen on one address"
            yield Finding(name, PROBLEM, f"taken by {who}", mend)
        elif error.errno == errno.EACCES:
            mend = "root, CAP_NET_BIND_SERVICE (AmbientCapabilities=, cap_add), or a port above 1023"
            yield Finding(name, PROBLEM, "ports below 1024 need a right that this user has not", mend)
        else:
            yield Finding(
                name, PROBLEM, error.strerror or str(error), "--listen on an address of this machine"
            )


def _engines(config: Config) -> Iterator[Finding]:
    for engine in config.docker:
        if not engine.url.startswith("unix://"):
            continue
        path = engine.url.removeprefix("unix://")
        name = f"docker {path}"
        try:
            version = probes.engine(path, "/version")
        except FileNotFoundError:
            yield Finding(
                name, PROBLEM, "there is no such socket", "start the engine, or name another: --docker"
            )
        except PermissionError:
            yield Finding(name, PROBLEM, "this user may not use the socket", _rights(path))
        except (OSError, ValueError) as error:
            yield Finding(name, PROBLEM, f"no answer: {error}", "see the engine's log: journalctl -u docker")
        else:
            yield Finding(name, OK, f"Docker Engine {version.get('Version', '?')}")


def _rights(path: str) -> str:
    try:
        group = grp.getgrgid(Path(path).stat().st_gid).gr_name
    except (OSError, KeyError):
        group = "docker"
    return f"add the user to the group {group}: usermod -aG {group} USER, or group_add in a container"


def _consul(config: Config) -> Iterator[Finding]:
    if config.consul is None:
        return
    name = f"consul {config.consul.url}"
    try:
        leader = Client(config.consul.url).get("v1", "status", "leader")
    except RefusedError as error:
        yield Finding(name, PROBLEM, str(error), "give a token that may read: [consul] token")
    except (UnreachableError, TimeoutError):
        yield Finding(name, PROBLEM, "no agent answers there", "start the agent, or name another: --consul")
    else:
        lost = Finding(name, PROBLEM, "the cluster has no leader", "see: consul operator raft list-peers")
        yield Finding(name, OK, f"leader {leader}") if leader else lost


def _upstreams(config: Config) -> Iterator[Finding]:
    domain = config.domains[0]
    ours = b"\x02ns" + bytes([len(domain.split(".")[0])])
    for server in config.forward.upstreams:
        name = f"upstream {server}"
        reply = probes.soa_from(server.host, server.port, domain)
        if reply is None:
            yield Finding(name, PROBLEM, "it does not answer", "name servers that do: --upstream")
        elif ours in reply or (b"\x02ns\xc0" in reply and reply[2] & 4):
            found = f"it answers {domain} as discoverd does: it seems to ask discoverd in turn"
            yield Finding(
                name, WARNING, found, "a server that does not ask back: --upstream, or names go round"
            )
        else:
            yield Finding(name, OK, "answers")


def _containers(config: Config) -> Iterator[Finding]:
    """Running containers whose questions never get here."""
    sockets = [e.url.removeprefix("unix://") for e in config.docker if e.url.startswith("unix://")]
    for path in sockets:
        if not os.access(path, os.R_OK | os.W_OK):
            continue  # said already
        try:
            listed = probes.engine(path, "/containers/json")
            seen = [
                probes.engine(path, f"/containers/{c['Id']}/json") for c in islice(listed, CONTAINERS_MOST)
            ]
        except (OSError, ValueError):
            continue  # said already, or a container has just gone
        if not seen:
            continue
        addresses = {e.host for e in config.listen if not e.is_wildcard}
        wildcard = any(e.is_wildcard for e in config.listen)
        lost = [
            c["Name"].lstrip("/")
            for c in seen
            if not (servers := c["HostConfig"].get("Dns") or []) or not (wildcard or addresses & set(servers))
        ]
        if not lost:
            yield Finding("containers", OK, f"all {len(seen)} name a DNS server that is discoverd")
            continue
        few = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
        mend = 'dns: [ADDRESS] in the Compose file, --dns, or "dns" in /etc/docker/daemon.json'
        if all(endpoint.port != 53 for endpoint in config.listen):
            mend += "; containers ask port 53 only, which discoverd does not listen on"
        yield Finding("containers", WARNING, f"{few} do not name discoverd as their DNS server", mend)
