"""What a manager said (tests/data/docker/swarm: Docker 20.10, one node) -> services and tasks elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discoverd.model import Health, State
from discoverd.naming import bindings
from discoverd.sources.docker.book import Book
from discoverd.sources.docker.manager import parse_endpoints
from discoverd.sources.docker.networks import parse_networks
from discoverd.sources.docker.services import parse_services
from discoverd.sources.docker.swarm import Report
from discoverd.sources.docker.tasks import parse_nodes, parse_tasks
from tests.sources.docker.recorded import DATA, SETTINGS, load

if TYPE_CHECKING:
    from discoverd.model import Instance

HERE, THERE = "jntcyze7dh3vcmuzbo4cfm6er", "elsewhere"
API, DB = "f2zmukj71n3y7tiydc71p78pk", "l7j0fmlz3zal149e1hkiduax9"


def said(name: str) -> Any:
    return json.loads((DATA / "swarm" / f"{name}.json").read_text(encoding="utf-8"))


def report(*, node: str = HERE, without: str = "", **changes: Any) -> Report:
    """The recorded swarm, with its tasks on ``node`` of two, and without those of one service."""
    (own,) = said("nodes")
    other = {**own, "ID": THERE, "Status": {"State": "ready", "Addr": "10.9.9.9"} | changes.pop("status", {})}
    nodes = parse_nodes([own, other])
    tasks = [{**t, "NodeID": node} | changes for t in said("tasks") if t["ServiceID"] != without]
    return Report(services=parse_services(said("services")), tasks=parse_tasks(tasks, nodes), nodes=nodes)


def only_node(given: Report) -> Report:
    return replace(given, nodes={HERE: given.nodes[HERE]})


def book(settings: Any = SETTINGS) -> Book:
    made = Book(settings)
    made.set_networks(parse_networks(said("networks"), SETTINGS.name), 1)
    return made


def told(settings: Any = SETTINGS, **options: Any) -> dict[str, Instance]:
    made = book(settings)
    made.set_swarm(report(**options), {})
    return {key: instances[0] for key, instances in made.objects().items()}


def addresses(instance: Instance) -> dict[str, str]:
    return {a.network: str(a.ip) for a in instance.addresses}


def container(task: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What an engine's inspect says of a task's container."""
    doc: dict[str, Any] = load("engine-20", "plain")
    labels = {
        "com.docker.stack.namespace": "shop",
        "com.docker.swarm.service.id": task["ServiceID"],
        "com.docker.swarm.service.name": "shop_api",
        "com.docker.swarm.task.id": task["ID"],
        "com.docker.swarm.task.name": f"shop_api.{task['Slot']}.{task['ID']}",
    }
    doc["Id"] = task["Status"]["ContainerStatus"]["ContainerID"]
    doc["Name"] = "/" + labels["com.docker.swarm.task.name"]
    doc["Config"] = {**doc["Config"], "Labels": labels, "Hostname": doc["Id"][:12]}
    attached = task["NetworksAttachments"][1]
    doc["NetworkSettings"] = {
        "Ports": {},
        "Networks": {
            "shop_default": {
                "NetworkID": attached["Network"]["ID"],
                "IPAddress": attached["Addresses"][0].partition("/")[0],
                "Aliases": [doc["Id"][:12]],
            }
        },
    }
    return doc | changes


def test_a_virtual_ip_has_the_services_names_and_its_tasks_their_own() -> None:
    objects = told(node=THERE)
    service = objects.pop(f"service/{API}")
    assert (service.service, service.scope, service.state, service.health) == (
        *("api", "shop"),
        *(State.RUNNING, Health.HEALTHY),
    )
    assert addresses(service) == {"shop_default": "10.217.201.5"}  # and not the one on ingress
    assert (service.tags, service.ttl) == (("gold",), 3)
    assert [(p.port, p.published) for p in service.ports] == [(8080, 18080)]
    assert {"api", "api.shop", "shop_api", "gold.api", "api.shop_default"} <= bindings(service).keys()
    assert not [name for name in bindings(service) if name.startswith("tasks.")]
    tasks = [i for i in objects.values() if i.service == "api"]
    assert [addresses(t) for t in tasks] == [
        {"shop_default": "10.217.201.7"},
        {"shop_default": "10.217.201.6"},
    ]
    names = {name for task in tasks for name in bindings(task)}
    assert {"tasks.api", "tasks.api.shop", "tasks.shop_api", "1.api.shop", "2.api.shop"} <= names
    assert names.isdisjoint({"api", "api.shop", "shop_api", "gold.api", "api.shop_default"})


def test_a_service_without_tasks_is_known_and_serves_nobody() -> None:
    objects = told(without=API)
    for service, name in ((API, "api"), (DB, "db")):  # with a virtual IP, and without
        placeholder = objects[f"service/{service}"]
        assert placeholder.state is State.STOPPED
        assert placeholder.addresses == ()
        assert {name, f"{name}.shop", f"tasks.{name}", f"tasks.{name}.shop"} <= bindings(placeholder).keys()
    assert {"database", "database.shop"} <= bindings(objects[f"service/{DB}"]).keys()
    assert objects[f"service/{DB}"].network_ids == {
        f"local/{n['Id']}" for n in said("networks") if n["Name"] in {"shop_default", "shop_back"}
    }


@pytest.mark.parametrize(
    ("changes", "health"),
    [
        ({}, Health.HEALTHY),
        ({"DesiredState": "shutdown"}, None),
        ({"Status": {"State": "starting", "ContainerStatus": {"ContainerID": "c"}}}, Health.STARTING),
        ({"Status": {"State": "preparing", "ContainerStatus": {"ContainerID": "c"}}}, None),
        ({"Status": {"State": "failed", "ContainerStatus": {"ContainerID": "c"}}}, None),
        ({"status": {"State": "down"}}, None),
        ({"status": {"State": "unknown"}}, Health.HEALTHY),
    ],
)
def test_which_tasks_count(changes: dict[str, Any], health: Health | None) -> None:
    desired = {"DesiredState": "running"}  # that of all, also of those that have ended
    found = report(node=THERE, without=DB, **(desired | changes))
    assert {task.health for task in found.tasks} == ({health} if health else set())


def test_a_task_is_counted_once() -> None:
    one, other = (t for t in said("tasks") if t["ServiceID"] == API)
    # on the only node, tasks are their containers
    alone = book()
    alone.set_swarm(only_node(report()), {})
    assert not [key for key in alone.objects() if key.startswith("task/")]
    # on one of several, which one it is shows with the first container of a task
    known = book()
    known.set_swarm(report(), {})
    assert {f"task/{one['ID']}", f"task/{other['ID']}"} <= known.objects().keys()
    update = known.heard(container(one), 5, 0.0)
    assert [(i.in_service, i.task) for i in update.objects[container(one)["Id"]]] == [(False, True)]
    assert update.objects[f"task/{one['ID']}"] == update.objects[f"task/{other['ID']}"] == ()
    # and is remembered when that one is gone, though the list of tasks does not know yet
    known.gone(container(one)["Id"], 6)
    known.set_swarm(report(), {"x": ()})
    assert not [key for key in known.objects() if key.startswith("task/")]
    # whatever comes first
    first = book()
    first.heard(container(one), 5, 0.0)
    first.set_swarm(report(), {})
    assert not [key for key in first.objects() if key.startswith("task/")]


def test_containers_are_read_again_when_their_service_differs() -> None:
    (one, _) = (t for t in said("tasks") if t["ServiceID"] == API)
    known, now = book(), report()
    known.set_swarm(now, {})
    known.heard(container(one), 5, 0.0)
    assert known.objects()[container(one)["Id"]][0].tags == ("gold",)
    assert known.set_swarm(report(), {}).look == ()
    services = {
        **now.services,
        API: replace(now.services[API], virtual=(), labels={"discoverd.tags": "iron"}),
    }
    assert known.set_swarm(replace(now, services=services), {}).look == (container(one)["Id"],)
    known.heard(container(one), 6, 0.0)
    (found,) = known.objects()[container(one)["Id"]]
    assert {"api", "iron.api", "tasks.api"} <= bindings(found).keys()
    # without a manager, a worker's containers go by their labels
    known.set_swarm(Report(), {})
    known.heard(container(one), 7, 0.0)
    assert {"api.shop", "shop_api", "tasks.api"} <= bindings(known.objects()[container(one)["Id"]][0]).keys()
    assert set(known.objects()) == {container(one)["Id"]}


def test_where_a_container_asks_from() -> None:
    (one, _) = (t for t in said("tasks") if t["ServiceID"] == API)
    key, known = container(one)["Id"], book()
    known.set_swarm(report(), {})
    known.heard(container(one), 5, 0.0)
    network = {"Containers": {key: {"IPv4Address": "172.18.0.5/16", "IPv6Address": ""}, "ingress-sbox": {}}}
    gateways = parse_endpoints(network)
    assert gateways == {key: (ip_address("172.18.0.5"),)}
    (asks,) = known.set_swarm(report(), gateways).objects[key]
    assert asks.asks_from == (ip_address("172.18.0.5"),)
    known.heard(container(one), 6, 0.0)
    assert known.objects()[key][0] == asks
    known.died(key, 7)
    assert known.objects()[key][0].asks_from == ()


def test_published_ports_are_the_nodes_that_have_them() -> None:
    settings = replace(SETTINGS, host_address=ip_address("192.168.1.10"))
    alone = book(settings)
    alone.set_swarm(only_node(report()), {})
    (host,) = (i for (i,) in alone.objects().values() if i.service == "host")
    assert [(p.port, p.published) for p in host.ports] == [(9090, 19090)]
    there = told(settings, node=THERE)
    assert [i.ports for i in there.values() if i.service == "host" and not i.task] == [()]
    elsewhere = next(i for i in there.values() if i.service == "host" and i.task)
    assert (str(elsewhere.host_address), [p.published for p in elsewhere.ports]) == ("10.9.9.9", [19090])
    assert str(there[f"service/{API}"].host_address) == "192.168.1.10"  # the routing mesh is on every node


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.data())
def test_misshapen_parts_count_as_empty(data: st.DataObject) -> None:
    """One part of what a manager says is anything at all: the rest is read all the same."""

    def spoilt(doc: Any) -> Any:
        if isinstance(doc, dict) and doc and data.draw(st.integers(0, 3)):
            key = data.draw(st.sampled_from(sorted(doc)))
            return {**doc, key: spoilt(doc[key])}
        if isinstance(doc, list) and doc and data.draw(st.booleans()):
            place = data.draw(st.integers(0, len(doc) - 1))
            return [spoilt(item) if number == place else item for number, item in enumerate(doc)]
        return data.draw(JSON)

    def objects(found: Any) -> list[Any]:
        return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []

    nodes = parse_nodes(objects(spoilt(said("nodes"))))
    services = parse_services(objects(spoilt(said("services"))))
    tasks = parse_tasks([{**t, "NodeID": THERE} for t in objects(spoilt(said("tasks")))], nodes)
    book().set_swarm(Report(services=services, tasks=tasks, nodes=nodes), {})
