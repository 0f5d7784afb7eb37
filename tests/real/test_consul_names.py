"""Names under ``.consul``: the same thousands of questions to the agent's own DNS and to discoverd.

Both must say the same: rcode, flags, set of answers, SOA or not, addresses in the additional
section. What differs on purpose is listed in DIFFERENCES with its reason; docs/consul.md repeats it.
"""

from __future__ import annotations

import random
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from tests.real.debian import REPO
from tests.wait import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.real.consul import ConsulAgent
    from tests.real.server import Server

QUESTIONS = 5000
#: The agent closes a connection after 128 questions.
PER_CONNECTION = 100
TYPES = ["A", "AAAA", "SRV", "ANY", "TXT", "MX", "HTTPS", "CNAME", "PTR", "NAPTR", "SOA", "NS"]

Check = tuple[str, str, bool]  # id, status, whether it is the service's own and not its node's


def register(
    agent: ConsulAgent, node: str, address: str, *checks: Check, meta: Any = None, **service: Any
) -> None:
    """Put a node, and a service instance on it, into the catalog, as an external service is."""
    body: dict[str, Any] = {"Node": node, "Address": address, "NodeMeta": meta or {}}
    if service:
        body["Service"] = service
    body["Checks"] = [
        {"Node": node, "CheckID": name, "Name": name, "Status": status}
        | ({"ServiceID": service["ID"]} if own else {})
        for name, status, own in checks
    ]
    assert agent.api("/v1/catalog/register", "PUT", body).status == 200


def populate(agent: ConsulAgent) -> None:
    """One of each thing that Consul's DNS tells apart."""

    def put(node: int | str, ident: str, name: str, where: str = "", port: int = 80, **more: Any) -> None:
        checks = more.pop("checks", ())
        host = node if isinstance(node, str) else f"n{node}"
        address = more.pop("at", f"192.168.1.{node}")
        register(agent, host, address, *checks, ID=ident, Service=name, Address=where, Port=port, **more)

    put(1, "a1", "web", "10.1.0.1", 80, Tags=["v1", "Blue"])
    put(1, "a2", "web", "10.1.0.1", 81, Tags=["v2"])
    warning = [("w", "warning", True)]
    put(
        2,
        "a3",
        "web",
        "",
        8080,
        Tags=["v1", "dot.tag"],
        Weights={"Passing": 10, "Warning": 2},
        checks=warning,
    )
    put(3, "a4", "web", "10.1.0.4", Tags=["v1"], checks=[("c", "critical", True)])
    put("N4", "b1", "Api", "2001:db8::1", 90, Tags=["x"], at="192.168.1.4")
    put("n5", "b2", "api", "", 91, Tags=["x", "y"], at="2001:db8::5")
    six = {"lan_ipv6": {"Address": "2001:db8::66", "Port": 1}}
    put("n.dot", "c1", "my_db", "10.1.0.6", 5432, Tags=["primary"], TaggedAddresses=six, at="192.168.1.6")
    put("n7", "d1", "ext", "", 443, Tags=["t"], at="ext.example.com")
    put(8, "d2", "ext2", "svc.example.org", 443, Tags=["t"])
    put(8, "d3", "ext3", "web.service.consul", 444, Tags=["t"])
    put(8, "d4", "ext3", "10.9.9.9", 445, Tags=["t2"])
    put(8, "d5", "a.b", "10.1.0.8")
    put(9, "e1", "down", "10.1.0.9", checks=[("c", "critical", True)])
    put(10, "e2", "nodedown", "10.1.0.10", checks=[("_node_maintenance", "critical", False)])
    put(11, "e3", "maint", "10.1.0.11", checks=[("_service_maintenance:e3", "critical", True)])
    put(12, "f1", "mixfam", "2001:db8::c", Tags=["p0"])
    put(12, "f2", "mixfam", "10.1.0.12", 0, Tags=["p0"])
    put("n13", "g1", "nodealias", at="n1.node.consul")
    put(14, "h1", "self", "self.service.consul")
    register(agent, "n15", "192.168.1.15", meta={"k": "v`w", "rfc1035-z": "hello world"})
    for number in range(12):
        put(f"m{number}", f"k{number}", "many", f"10.2.0.{number}", at=f"192.168.2.{number}",
            Tags=["even" if number % 2 == 0 else "odd"])  # fmt: skip


SERVICES = [
    "web",
    "Web",
    "api",
    "API",
    "my_db",
    "ext",
    "ext2",
    "ext3",
    "a.b",
    "b",
    "down",
    "nodedown",
    "maint",
    "mixfam",
    "nodealias",
    "self",
    "many",
    "consul",
    "nope",
    "db",
]
TAGS = ["", "v1.", "V1.", "v2.", "blue.", "dot.tag.", "tag.", "x.", "t2.", "primary.", "even.", "zz.", "a."]
DATACENTERS = ["", ".dc1", ".DC1", ".dc9", ".dc1.x"]
NODES = ["n1", "N1", "n4", "N4", "n5", "n.dot", "n7", "n13", "n15", "n10", "dev", "nope", "m3"]
HEX = [
    "0a000001",
    "0A000001",
    "20010db8000000000000000000000001",
    "zz000001",
    "0a0000",
    "0a00000",
    "0a0000010",
    "1.0a000001",
    "0a000001.addr.dc1",
    "c0a80101",
]
ODD = [
    "consul",
    "service.consul",
    "node.consul",
    "addr.consul",
    "query.consul",
    "dc1.consul",
    "foo.consul",
    "web.consul",
    "n1.consul",
    "ns.consul",
    "service.dc1.consul",
    "node.service.consul",
    "web.service.service.consul",
    "web.node.service.consul",
    "service.node.consul",
    "a.b.c.d.consul",
    "_web._tcp.consul",
    "_tcp.consul",
    "_web.consul",
    "web.service.consul.consul",
    "consul.consul",
    "xconsul.consul",
    "x.connect.dc9.consul",
    "x.connect.dc1.y.consul",
    "connect.consul",
    "ingress.consul",
]


def names() -> Iterator[str]:
    for service in SERVICES:
        yield from (f"{tag}{service}.service{dc}.consul" for tag in TAGS for dc in DATACENTERS)
        for tag in ("tcp", "udp", "v1", "v2", "even", "x", "zz", "TCP"):
            for dc in DATACENTERS[:4]:
                yield f"_{service}._{tag}.service{dc}.consul"
                yield f"_{service}._{tag}{dc}.consul"
        yield f"_{service}.service.consul"
        yield f"_{service}._tcp._tcp.service.consul"
        yield f"_v1.{service}.service.consul"
        yield f"x._{service}._tcp.service.consul"
    for node in NODES:
        yield from (f"{node}.node{dc}.consul" for dc in DATACENTERS)
        yield f"x.{node}.node.consul"
    for text in HEX:
        yield from (f"{text}.addr{rest}.consul" for rest in ("", ".dc1", ".dc1.x"))
    yield from ODD


Entry = tuple[str, int, str, str]  # owner, TTL, type, data


@dataclass(frozen=True)
class Said:
    """What of a reply is compared. Owners and data in lower case, a SOA's times and serial left out."""

    rcode: str = "no reply"
    flags: str = ""
    answer: tuple[Entry, ...] = ()
    authority: tuple[Entry, ...] = ()
    additional: tuple[Entry, ...] = ()


def said(message: dns.message.Message | None) -> Said:
    if message is None:
        return Said()

    def entries(section: list[Any]) -> tuple[Entry, ...]:
        found = []
        for rrset in section:
            kind = dns.rdatatype.to_text(rrset.rdtype)
            for data in rrset:
                text = " ".join(str(data).lower().split()[: 2 if kind == "SOA" else None])
                found.append((rrset.name.to_text().lower(), rrset.ttl, kind, text))
        return tuple(sorted(found))

    return Said(
        dns.rcode.to_text(message.rcode()),
        dns.flags.to_text(message.flags),
        entries(message.answer),
        entries(message.authority),
        entries(message.additional),
    )


class Asker:
    """Asks one server over connections that are used again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._asked = 0

    def __call__(self, name: str, rtype: str) -> Said:
        question = dns.message.make_query(name, rtype, use_edns=0, payload=1232)
        if self._socket is None or self._asked % PER_CONNECTION == 0:
            self.close()
            self._socket = socket.create_connection(("127.0.0.1", self._port))
            self._socket.setblocking(False)
        self._asked += 1
        try:
            return said(dns.query.tcp(question, "127.0.0.1", sock=self._socket, timeout=5))
        except (dns.exception.Timeout, EOFError):
            self.close()
            return Said()

    def udp(self, name: str, rtype: str) -> Said:
        question = dns.message.make_query(name, rtype, use_edns=0, payload=1232)
        return said(dns.query.udp(question, "127.0.0.1", port=self._port, timeout=5))

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None


@dataclass(frozen=True)
class Difference:
    """One way in which discoverd differs on purpose. ``mend`` makes Consul's reply what discoverd's is to
    be, or returns None where this difference has no say."""

    why: str
    mend: Callable[[str, str, Said, Asker], Said | None]


SOA: Entry = ("consul.", 0, "SOA", "ns.consul. hostmaster.consul.")


def _parts(name: str, kind: str) -> bool:
    return f".{kind}." in f".{name.lower()}"


def _texts_of_service(name: str, rtype: str, consul: Said, ask: Asker) -> Said | None:
    if rtype != "TXT" or _parts(name, "node") or _parts(name, "addr") or not consul.answer:
        return None
    return ask(name, "MX")


def _wrong_type_of_address(name: str, rtype: str, consul: Said, _ask: Asker) -> Said | None:
    types = {e[2] for e in consul.answer}
    if not _parts(name, "addr") or types not in ({"A"}, {"AAAA"}) or rtype in types | {"ANY"}:
        return None
    return Said(consul.rcode, consul.flags, (), (SOA,), ())


def _no_soa(_name: str, _rtype: str, consul: Said, _ask: Asker) -> Said | None:
    if consul.rcode != "NOERROR" or consul.answer or consul.authority:
        return None
    return Said(consul.rcode, consul.flags, (), (SOA,), consul.additional)


def _missing_node(name: str, rtype: str, consul: Said, _ask: Asker) -> Said | None:
    known = {f"{node}.node{dc}.consul".lower() for node in NODES if node != "nope" for dc in ("", ".dc1")}
    other = rtype not in {"A", "AAAA", "ANY", "TXT", "SOA", "NS"}
    if consul.rcode != "NOERROR" or consul.answer or not other or not _parts(name, "node"):
        return None
    return None if name.lower() in known else Said("NXDOMAIN", consul.flags, (), (SOA,), ())


def _alias_of_any_type(name: str, rtype: str, consul: Said, _ask: Asker) -> Said | None:
    aliases = {"n7": "ext.example.com.", "n13": "n1.node.consul."}
    node, _, rest = name.lower().partition(".")
    if node not in aliases or rest not in {"node.consul", "node.dc1.consul"} or consul.answer:
        return None
    more: tuple[Entry, ...] = (("n1.node.consul.", 0, "A", "192.168.1.1"),) if node == "n13" else ()
    answer = tuple(sorted(((f"{name.lower()}.", 0, "CNAME", aliases[node]), *more)))
    return Said("NOERROR", consul.flags, answer) if rtype not in {"SOA", "NS"} else None


def _servers_beside_soa(_name: str, rtype: str, consul: Said, _ask: Asker) -> Said | None:
    return Said(consul.rcode, consul.flags, consul.answer) if rtype == "SOA" and consul.authority else None


def _texts_beside(_name: str, _rtype: str, consul: Said, _ask: Asker) -> Said | None:
    kept = tuple(e for e in consul.additional if e[2] != "TXT")
    if kept == consul.additional:
        return None
    return Said(consul.rcode, consul.flags, consul.answer, consul.authority, kept)


DIFFERENCES = [
    Difference("metadata of nodes is given when it is asked for, and not beside addresses", _texts_beside),
    Difference("a SOA answer comes alone", _servers_beside_soa),
    Difference("TXT at a service is answered as other types without data, not with addresses",
               _texts_of_service),
    Difference("other types at an addr name are no data, and not the address", _wrong_type_of_address),
    Difference("a node that is a host name is an alias for every type (RFC 1034 section 3.6.2)",
               _alias_of_any_type),
    Difference("a node that does not exist is NXDOMAIN for every type", _missing_node),
    Difference("no data has its SOA, so that it can be cached (RFC 2308 section 2.2)", _no_soa),
]  # fmt: skip


@pytest.fixture
def both(consul_agent: ConsulAgent, discoverd: Callable[..., Server]) -> Iterator[tuple[Asker, Asker]]:
    """Who to ask: the agent's own DNS, and discoverd, with everything known to both."""
    populate(consul_agent)
    server = discoverd("--consul", consul_agent.url)
    server.wait_source("live", "consul")
    consul, ours = Asker(consul_agent.dns_port), Asker(server.dns_port)
    until(lambda: consul("many.service.consul", "A").answer, message="the agent's DNS knows the last service")
    yield consul, ours
    consul.close()
    ours.close()


def test_thousands_of_questions_get_the_same_answers(
    both: tuple[Asker, Asker], record_property: Callable[[str, object], None]
) -> None:
    consul, ours = both
    questions = [(name, rtype) for name in dict.fromkeys(names()) for rtype in TYPES]
    chosen = random.Random(20).sample(questions, QUESTIONS)
    wrong: list[str] = []
    used: dict[str, int] = {}
    same = 0
    for name, rtype in chosen:
        theirs, found = consul(name, rtype), ours(name, rtype)
        same += theirs == found
        for difference in DIFFERENCES:
            if theirs != found and (mended := difference.mend(name, rtype, theirs, consul)):
                theirs = mended
                used[difference.why] = used.get(difference.why, 0) + 1
        if theirs != found:
            wrong.append(f"{name} {rtype}\n  expected {theirs}\n  got      {found}")
    assert not wrong, f"{len(wrong)} of {len(chosen)} differ:\n" + "\n".join(wrong[:10])
    assert set(used) == {d.why for d in DIFFERENCES}, "a difference that no question shows is none"
    record_property(
        "measured .consul questions answered as the agent does",
        f"{same} of {len(chosen)}; with the {len(DIFFERENCES)} differences on purpose, all",
    )


def test_the_differences_are_written_down() -> None:
    text = " ".join((REPO / "docs" / "consul.md").read_text(encoding="utf-8").split())
    for difference in DIFFERENCES:
        assert f"- {difference.why}" in text


def test_what_fits_a_datagram_is_the_same_there(both: tuple[Asker, Asker]) -> None:
    consul, ours = both
    for name in (
        "web.service.consul",
        "v1.web.service.dc1.consul",
        "WEB.Service.Consul",
        "api.service.consul",
    ):
        for rtype in ("A", "AAAA"):
            assert ours.udp(name, rtype) == consul.udp(name, rtype), f"{name} {rtype}"
