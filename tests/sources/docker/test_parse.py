from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from discoverd.model import Address, Health, Link, Port, State
from discoverd.sources.docker.parse import parse_container
from discoverd.sources.docker.settings import DockerSettings
from tests.sources.docker.recorded import ENGINES, SETTINGS, container, instance, load, names, networks

each_engine = pytest.mark.parametrize("engine", ENGINES)


@each_engine
def test_a_compose_container(engine: str) -> None:
    doc = load(engine, "shop-web-2")
    web = instance(engine, "shop-web-2")
    assert web.id == doc["Id"]
    assert (web.service, web.scope, web.source) == ("web", "shop", "docker/local")
    assert (web.state, web.health, web.replica, web.in_service) == (State.RUNNING, Health.HEALTHY, 2, True)
    assert web.own_names == ("shop-web-2", "shop_web_2")
    assert web.unique == doc["Id"][:12]
    assert not web.hostname
    assert web.tags == ("blue", "v2")
    assert web.started_at > 1.7e9
    assert container(engine, "shop-web-2").notes == ()


@each_engine
def test_its_networks_are_the_projects_default_first_and_only_real_aliases_count(engine: str) -> None:
    endpoints = load(engine, "shop-web-2")["NetworkSettings"]["Networks"]
    web = instance(engine, "shop-web-2")
    default, edge = endpoints["shop_default"], endpoints["shop_edge"]
    assert web.addresses == (
        Address(ip_address(default["IPAddress"]), "shop_default", f"local/{default['NetworkID']}"),
        Address(ip_address(edge["IPAddress"]), "shop_edge", f"local/{edge['NetworkID']}"),
    )
    assert [(m.network, m.aliases) for m in web.memberships] == [
        ("shop_default", ("www",)),
        ("shop_edge", ()),
    ]


@each_engine
def test_its_ports_are_the_labelled_ones_first_with_what_is_published(engine: str) -> None:
    bindings = load(engine, "shop-web-2")["NetworkSettings"]["Ports"]
    outer = int(bindings["8080/tcp"][0]["HostPort"])
    loopback = int(bindings["9000/udp"][0]["HostPort"])
    assert instance(engine, "shop-web-2").ports == (
        Port(8080, "tcp", "http", outer),
        Port(9090, "tcp", "metrics"),
        Port(5432),
        Port(9000, "udp", "", loopback, published_beyond_host=False),
    )


@each_engine
def test_its_links_are_its_own(engine: str) -> None:
    links = instance(engine, "shop-web-1").links
    assert links[0] == Link("store", "shopdb")
    assert {link.target for link in links} == {"shopdb"}


@each_engine
def test_a_link_on_the_default_bridge(engine: str) -> None:
    assert instance(engine, "linking").links == (Link("store", "loose"),)


@each_engine
def test_a_compose_container_with_names_of_its_own(engine: str) -> None:
    db = instance(engine, "db-healthy")
    assert (db.service, db.scope, db.replica) == ("db", "shop", 1)
    assert db.own_names == ("shopdb",)
    assert db.hostname == "dbhost"
    assert [m.aliases for m in db.memberships] == [()]


@each_engine
@pytest.mark.parametrize(
    ("name", "state", "health"),
    [
        ("db-healthy", State.RUNNING, Health.HEALTHY),
        ("db-unhealthy", State.RUNNING, Health.UNHEALTHY),
        ("starting", State.RUNNING, Health.STARTING),
        ("plain", State.RUNNING, Health.HEALTHY),
        ("paused", State.PAUSED, Health.HEALTHY),
        ("looping", State.RESTARTING, Health.HEALTHY),
        ("created", State.STOPPED, Health.HEALTHY),
        ("db-stopped", State.STOPPED, Health.UNHEALTHY),
    ],
)
def test_states(engine: str, name: str, state: State, health: Health) -> None:
    found = instance(engine, name)
    assert (found.state, found.health) == (state, health)
    assert bool(found.addresses) is (state in {State.RUNNING, State.PAUSED})
    assert found.memberships


@each_engine
def test_stopped_ones_keep_their_places_and_never_a_stale_address(engine: str) -> None:
    endpoints = load(engine, "db-healthy")["NetworkSettings"]  # as after a crash under live-restore
    db = instance(engine, "db-stopped", NetworkSettings=endpoints)
    assert db.addresses == ()
    assert [m.network for m in db.memberships] == ["shop_default"]


@each_engine
@pytest.mark.parametrize("state", [{"Dead": True}, {"Status": "removing"}, {"Status": "dead"}])
def test_dead_and_half_removed_ones_are_stopped(engine: str, state: dict[str, Any]) -> None:
    found = container(engine, "db-healthy", State=state)
    assert (found.running, found.instances[0].state, found.instances[0].addresses) == (
        False,
        State.STOPPED,
        (),
    )


@each_engine
def test_created_ones_know_their_network_by_name_only(engine: str) -> None:
    created = instance(engine, "created")
    six = next(n for n in networks(engine).networks if n.name == "six")
    assert [(m.network, m.network_id, m.aliases) for m in created.memberships] == [("six", six.id, ("al1",))]
    assert not container(engine, "created").unresolved
    assert created.started_at == 0.0


@each_engine
def test_one_offs_have_their_container_name_only(engine: str) -> None:
    settings = DockerSettings(url=SETTINGS.url, names=("{service}.{project}.x",))
    labels = {
        **load(engine, "shop-web-run")["Config"]["Labels"],
        "discoverd.name": "extra",
        "SERVICE_NAME": "api",
    }
    config = {**load(engine, "shop-web-run")["Config"], "Labels": labels}
    run = instance(engine, "shop-web-run", settings, Config=config)
    assert not run.in_service
    assert run.replica is None
    assert run.extra_names == ()
    (own,) = run.own_names
    assert own.startswith("shop-web-run-")


@each_engine
def test_a_container_that_is_being_replaced_claims_no_name(engine: str) -> None:
    web = instance(engine, "recreating")
    assert web.own_names == ()
    assert (web.service, web.replica) == ("web", 2)
    assert [m.aliases for m in web.memberships] == [("www",), ()]


@each_engine
def test_a_plain_container(engine: str) -> None:
    plain = instance(engine, "plain")
    assert (plain.service, plain.scope, plain.replica) == ("plain-one", "", None)
    assert plain.own_names == ("plain.one",)
    assert plain.hostname == "own.host"
    assert [m.aliases for m in plain.memberships] == [("al.two", "al1")]
    assert [(str(a.ip), a.network) for a in plain.addresses] == [("172.30.9.2", "six"), ("fd00:9::2", "six")]
    assert container(engine, "plain").notes == ()


@each_engine
def test_published_ports(engine: str) -> None:
    assert instance(engine, "bridge").ports == (
        Port(80),
        Port(81, published=8081),
        Port(82, published=8082, published_beyond_host=False),
    )


@each_engine
def test_a_joined_container_has_the_addresses_and_published_ports_of_the_other(engine: str) -> None:
    loose = container(engine, "bridge")
    joined = container(engine, "joined", host=loose)
    (found,) = joined.instances
    assert joined.joins == loose.id
    assert found.addresses == loose.instances[0].addresses
    assert [m.network for m in found.memberships] == ["bridge"]
    assert (found.service, found.own_names, found.hostname) == ("joined", ("joined",), "")
    listening = {**load(engine, "joined")["Config"], "ExposedPorts": {"81/tcp": {}, "9/tcp": {}}}
    with_ports = container(engine, "joined", host=loose, Config=listening)
    assert with_ports.instances[0].ports == (Port(9), Port(81, published=8081))


@each_engine
def test_a_joined_container_takes_no_aliases_from_the_other(engine: str) -> None:
    side = container(engine, "shop-side-1", host=container(engine, "shop-web-1"))
    (found,) = side.instances
    assert [(m.network, m.aliases) for m in found.memberships] == [("shop_default", ()), ("shop_edge", ())]
    assert (found.service, found.scope, found.own_names) == ("side", "shop", ("shop-side-1", "shop_side_1"))


@each_engine
@pytest.mark.parametrize(
    "state",
    [
        pytest.param({"Running": False, "Status": "exited"}, id="the other has ended"),
        pytest.param({"StartedAt": "2999-01-01T00:00:00Z"}, id="the other was started again since"),
    ],
)
def test_a_joined_container_is_cut_off_by_the_others_end(engine: str, state: dict[str, Any]) -> None:
    joined = container(engine, "joined", host=container(engine, "bridge", State=state))
    assert joined.instances[0].addresses == ()
    assert joined.instances[0].state is State.RUNNING


@each_engine
def test_a_joined_container_without_the_other(engine: str) -> None:
    (found,) = container(engine, "joined").instances
    assert (found.addresses, found.memberships) == ((), ())


@each_engine
def test_a_container_on_the_hosts_own_network(engine: str) -> None:
    assert instance(engine, "hosted").addresses == ()
    settings = DockerSettings(url=SETTINGS.url, host_address=ip_address("192.0.2.7"))
    hosted = instance(engine, "hosted", settings)
    assert hosted.addresses == (Address(ip_address("192.0.2.7")),)
    assert hosted.memberships == ()
    assert hosted.hostname == ""  # it is the machine's
    assert hosted.ports == (Port(80, published=80),)
    assert hosted.host_address == ip_address("192.0.2.7")


@each_engine
def test_a_container_without_network(engine: str) -> None:
    alone = instance(engine, "alone")
    assert (alone.addresses, alone.memberships) == ((), ())


def test_only_enabled() -> None:
    settings = DockerSettings(url=SETTINGS.url, only_enabled=True)
    assert container("engine-26", "plain", settings).instances == ()
    enabled = {**load("engine-26", "plain")["Config"], "Labels": {"discoverd.enable": "True"}}
    assert container("engine-26", "plain", settings, Config=enabled).instances


@each_engine
def test_every_network_id_names_its_engine(engine: str) -> None:
    other = DockerSettings(url="tcp://10.0.0.9:2375", name="big")
    found = instance(engine, "shop-web-1", other)
    assert found.source == "docker/big"
    assert all(n.startswith("big/") for n in found.network_ids)
    assert {a.network_id for a in found.addresses} == found.network_ids
    assert found.network_ids <= {n.id for n in networks(engine, other).networks}


@each_engine
def test_each_recording_is_read_without_a_remark_that_it_does_not_deserve(engine: str) -> None:
    remarked = {name for name in names(engine) if container(engine, name).notes}
    assert remarked == {"labelled"}


@each_engine
def test_swarm_tasks_are_called_as_their_service(engine: str) -> None:
    labels = {
        "com.docker.stack.namespace": "shop",
        "com.docker.swarm.service.name": "shop_api",
        "com.docker.swarm.task.name": "shop_api.3.x8ot1nfkjbzvh1gmf3tkmgqyj",
    }
    config = {**load(engine, "plain")["Config"], "Labels": labels}
    task = instance(engine, "plain", Config=config)
    assert (task.service, task.scope, task.replica) == ("api", "shop", 3)
    assert task.extra_names == ("shop_api",)


@pytest.mark.parametrize(
    "doc",
    [{}, {"Id": "a"}, {"Id": 3, "State": {"Running": True}, "Config": {}}, {"message": "no such container"}],
)
def test_what_is_no_inspect_is_refused(doc: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected the inspect of a container"):
        parse_container(doc, SETTINGS, networks("engine-26"))


@pytest.mark.parametrize("missing", [None, {}, [], "", 7])
def test_parts_that_are_missing_count_as_empty(missing: Any) -> None:
    """Podman leaves HostConfig and Networks null in places."""
    doc = load("engine-26", "shop-web-1")
    doc |= {"HostConfig": missing, "NetworkSettings": missing, "Name": missing}
    doc["Config"] = {
        "Labels": missing,
        "Env": missing,
        "ExposedPorts": missing,
        "Hostname": missing,
        "StopTimeout": {},
    }
    (found,) = parse_container(doc, SETTINGS, networks("engine-26")).instances
    assert (found.service, found.own_names, found.addresses, found.ports) == (found.unique, (), (), ())
