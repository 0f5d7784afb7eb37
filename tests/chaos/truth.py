"""What must be answered, worked out from what the engine and Consul's agent say of themselves. Pure.

Nothing of discoverd's own is used here: the rules are those of docs/names.md, written down once more.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Json = Mapping[str, Any]


@dataclass
class Truth:
    """By name: the addresses that must be in the answer, those that may be, and whose name it is.

    ``kind`` says by whose word: of the engine, of Consul, of a server's own registrations or file.
    """

    must: dict[str, set[str]] = field(default_factory=dict)
    may: dict[str, set[str]] = field(default_factory=dict)
    ids: dict[str, list[str]] = field(default_factory=dict)
    kind: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, must: Mapping[str, set[str]], ids: Mapping[str, list[str]]) -> None:
        for name, addresses in must.items():
            self.must[name], self.ids[name], self.kind[name] = addresses, ids.get(name, []), kind


class Container:
    """One container, as its inspect has it."""

    def __init__(self, doc: Json) -> None:
        state, networks = doc["State"], doc["NetworkSettings"]["Networks"] or {}
        self.id: str = doc["Id"]
        self.pid: int = state["Pid"]
        self.name = doc["Name"].lstrip("/")
        self.status: str = state["Status"]
        self.service: str = doc["Config"]["Labels"].get("discoverd.service", self.name)
        self.runs = bool(state["Running"] and not state["Paused"] and not state["Restarting"])
        self.health = (state.get("Health") or {}).get("Status", "healthy")
        self.networks: dict[str, str] = {name: each["IPAddress"] for name, each in networks.items()}
        own = {self.id[:12], self.name}
        self.aliases = {a for each in networks.values() for a in each.get("Aliases") or ()} - own
        if not self.runs:
            self.networks = dict.fromkeys(self.networks, "")

    @property
    def preferred(self) -> str:
        """Its address on the first of its networks by name, where it has one."""
        return next((ip for _, ip in sorted(self.networks.items()) if ip), "")


def fit(containers: Iterable[Container]) -> list[Container]:
    """Those that run and are healthy; where none is, all that run."""
    running = [c for c in containers if c.runs]
    return [c for c in running if c.health == "healthy"] or running


def of_engine(docs: Iterable[Json]) -> tuple[dict[str, set[str]], dict[str, list[str]]]:
    """Answers to an asker beyond the host, by name; and the ids of the containers that have the name."""
    named: defaultdict[str, list[Container]] = defaultdict(list)
    on_network: defaultdict[str, list[Container]] = defaultdict(list)
    for each in map(Container, docs):
        for name in {each.service, each.name, each.id[:12], *each.aliases}:
            named[f"{name}.docker"].append(each)
        for network in each.networks:
            on_network[f"{each.service}.{network}.docker"].append(each)
    must = {name: {c.preferred for c in fit(held) if c.preferred} for name, held in named.items()}
    for name, held in on_network.items():
        network = name.split(".")[1]
        must[name] = {c.networks[network] for c in fit(held) if c.networks[network]}
    return must, {name: [c.id for c in held] for name, held in [*named.items(), *on_network.items()]}


def reverse_of_engine(docs: Iterable[Json]) -> dict[str, set[str]]:
    """By address: the container that has it now."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for each in map(Container, docs):
        for ip in filter(None, each.networks.values()):
            found[ip_address(ip).reverse_pointer].add(f"{each.name}.docker.")
    return dict(found)


def from_inside(docs: Iterable[Json], asker: Container, service: str) -> list[set[str]]:
    """For each instance that this container must be given, the addresses that are right for it."""
    held = [c for c in map(Container, docs) if c.service == service]
    near = [c for c in held if c.networks.keys() & asker.networks.keys()]
    if any(c.runs for c in near):
        found = [{c.networks[n] for n in c.networks.keys() & asker.networks.keys()} for c in fit(near)]
    else:
        found = [{c.preferred} for c in fit(held)]
    return [each - {""} for each in found if any(each)]


def of_consul(health: Mapping[str, Iterable[Json]]) -> tuple[dict[str, set[str]], dict[str, list[str]]]:
    """Answers by name from ``/v1/health/service/NAME`` of each service."""
    must: dict[str, set[str]] = {}
    ids: dict[str, list[str]] = {}
    for service, entries in health.items():
        there = {e["Service"]["Address"]: _passes(e) for e in entries if not _is_kept_out(e)}
        passing = {address for address, passes in there.items() if passes}
        must[f"{service}.docker"] = passing or set(there)
        # a service in maintenance is paused, and not merely unhealthy
        must[f"{service}.service.consul"] = passing
        ids[f"{service}.docker"] = [e["Service"]["ID"] for e in entries]
    return must, ids


def _passes(entry: Json) -> bool:
    return all(check["Status"] != "critical" for check in entry["Checks"])


def _is_kept_out(entry: Json) -> bool:
    return any(
        check["CheckID"].startswith("_service_maintenance") or check["CheckID"] == "_node_maintenance"
        for check in entry["Checks"]
    )
