from __future__ import annotations

import pytest

from discoverd.model import Port
from tests.sources.docker.recorded import container, instance, labelled


def test_the_recorded_labels() -> None:
    found = instance("engine-26", "labelled")
    assert (found.service, found.scope, found.ttl, found.weight) == ("renamed", "zone", 7, 1)
    assert found.extra_names == ("a", "b.c", "*.wild", "bad-name")
    assert found.ports == (Port(99, "udp"),)
    assert found.meta == (("team", "core"),)
    notes = container("engine-26", "labelled").notes
    assert notes == (
        "label discoverd.name 'Bad Name!' is no DNS name: answering as 'bad-name'",
        "label discoverd.name '***' cannot be made a DNS name: left out",
        "label discoverd.weight is 'heavy': expected a whole number from 0 to 65535; ignored",
    )


@pytest.mark.parametrize(
    ("value", "served"),
    [
        ("true", True),
        ("1", True),
        ("YES", True),
        ("false", False),
        ("0", False),
        ("Off", False),
        ("perhaps", True),
    ],
)
def test_enable(value: str, served: bool) -> None:
    found = labelled({"discoverd.enable": value})
    assert bool(found.instances) is served
    assert bool(found.notes) is (value == "perhaps")


@pytest.mark.parametrize(
    ("label", "value", "complaint"),
    [
        ("ttl", "-1", "label discoverd.ttl is '-1': expected a whole number from 0 to 604800; ignored"),
        ("ttl", "1e3", "label discoverd.ttl is '1e3': expected a whole number from 0 to 604800; ignored"),
        (
            "ttl",
            "604801",
            "label discoverd.ttl is '604801': expected a whole number from 0 to 604800; ignored",
        ),
        ("weight", "\u0663", "expected a whole number from 0 to 65535; ignored"),
        ("weight", "9" * 99, "expected a whole number from 0 to 65535; ignored"),
        (
            "port",
            "http",
            "label discoverd.port has 'http': expected PORT, PORT/udp or NAME=PORT/tcp; left out",
        ),
        (
            "ports",
            "80,0",
            "label discoverd.ports has '0': expected PORT, PORT/udp or NAME=PORT/tcp; left out",
        ),
        ("ports", "65536", "label discoverd.ports has '65536'"),
        ("ports", "80/icmp", "label discoverd.ports has '80/icmp'"),
        ("enable", "", "label discoverd.enable is '': expected true or false; ignored"),
        ("network", "nowhere", "label discoverd.network is 'nowhere': expected one of its networks; ignored"),
        ("service", "!!!", "label discoverd.service '!!!' cannot be made a DNS name: left out"),
        ("nmae", "x", "label discoverd.nmae means nothing: discoverd.name would"),
        ("meta.a=b", "x", "expected up to 63 printable ASCII characters after 'discoverd.meta.'; left out"),
    ],
)
def test_a_wrong_label_is_one_remark_and_nothing_else(label: str, value: str, complaint: str) -> None:
    found = labelled({f"discoverd.{label}": value})
    (note,) = found.notes
    assert complaint in note
    (main,) = found.instances
    assert (main.service, main.ttl, main.weight, main.own_names) == ("registrator", None, 1, ("registrator",))


def test_others_labels_are_left_alone() -> None:
    assert labelled({"discoverd.test": "1", "discoverd.io/x": "2", "discoverdish": "3"}).notes == ()


def test_limits_are_within() -> None:
    (main,) = labelled({"discoverd.ttl": "0", "discoverd.weight": "0"}).instances
    assert (main.ttl, main.weight) == (0, 0)
    (main,) = labelled({"discoverd.ttl": "604800", "discoverd.weight": "65535"}).instances
    assert (main.ttl, main.weight) == (604800, 65535)


def test_ports_by_label_go_first_and_keep_what_the_engine_knows() -> None:
    (main,) = labelled(
        {"discoverd.port": "443", "discoverd.ports": "dns = 53/UDP, admin=443, 8080 ,, 9/sctp"}
    ).instances
    assert main.ports == (Port(443), Port(53, "udp", "dns"), Port(8080), Port(9, "sctp"), Port(80))


def test_tags_and_meta() -> None:
    labels = {"discoverd.tags": " blue,v2 ,,blue", "discoverd.meta.b": "2", "discoverd.meta.a": " 1 = one "}
    (main,) = labelled(labels).instances
    assert main.tags == ("blue", "v2")
    assert main.meta == (("a", " 1 = one "), ("b", "2"))


def test_names() -> None:
    found = labelled({"discoverd.name": "a, B.c ,*.d,*,e..f,_x"})
    assert found.instances[0].extra_names == ("a", "b.c", "*.d", "x")
    assert len(found.notes) == 3


@pytest.mark.parametrize(("scope", "made"), [("zone", "zone"), ("My Zone", "my-zone"), ("", "")])
def test_scope(scope: str, made: str) -> None:
    labels = {
        "com.docker.compose.project": "shop",
        "com.docker.compose.service": "web",
        "discoverd.scope": scope,
    }
    assert labelled(labels).instances[0].scope == made


def test_a_preferred_network_by_the_engines_name_or_by_the_projects() -> None:
    for wanted in ("shop_edge", "edge"):
        doc = container("engine-26", "shop-web-1", Config=_config({"discoverd.network": wanted}))
        assert [a.network for a in doc.instances[0].addresses] == ["shop_edge", "shop_default"]
        assert doc.notes == ()
        edge, default = doc.instances[0].memberships
        assert (edge.short, default.short) == ("edge", "default")


def test_a_networks_name_in_the_file_is_its_own_projects() -> None:
    """Another project's container on it calls it something else."""
    doc = container("engine-26", "shop-web-1", Config=_config({"com.docker.compose.project": "blog"}))
    assert {m.short for m in doc.instances[0].memberships} == {""}


def _config(labels: dict[str, str]) -> dict[str, object]:
    from tests.sources.docker.recorded import load

    config: dict[str, object] = load("engine-26", "shop-web-1")["Config"]
    own = config["Labels"]
    assert isinstance(own, dict)
    return {**config, "Labels": {**own, **labels}}


def test_name_templates() -> None:
    names = ("{service}.{project}.x", "{label:app}", "*.{service}", "{name}.{engine}", "{replica}-{service}")
    compose = {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}
    (main,) = labelled({**compose, "app": "The_App"}, names=names).instances
    assert main.extra_names == ("web.shop.x", "the_app", "*.web", "registrator.local")
    (plain,) = labelled({}, names=names).instances
    assert plain.extra_names == ("*.registrator", "registrator.local")


def test_registrators_environment_as_recorded() -> None:
    api, http, tls = container("engine-26", "registrator").instances
    assert (api.service, api.own_names, api.tags) == ("api", ("registrator",), ("a", "b"))
    assert [p.port for p in api.ports] == [80, 443]
    assert (http.service, tls.service) == ("api-http", "api-tls")
    assert ([p.port for p in http.ports], [p.port for p in tls.ports]) == ([80], [443])
    assert len({i.id for i in (api, http, tls)}) == len({i.unique for i in (api, http, tls)}) == 3
    assert http.addresses == api.addresses
    assert (http.own_names, http.extra_names, http.links) == ((), (), ())


def test_registrators_labels_go_before_its_environment_and_ours_before_both() -> None:
    env = ("SERVICE_NAME=from-env", "SERVICE_TAGS=env", "PATH=/bin", "SERVICE_80_NAME=web")
    (main, web) = labelled({"SERVICE_NAME": "from-label"}, env).instances
    assert (main.service, main.tags, web.service) == ("from-label", ("env",), "web")
    services = [
        i.service for i in labelled({"discoverd.service": "ours", "discoverd.tags": ""}, env).instances
    ]
    assert services == ["ours", "web", "from-env"]


def test_registrators_names_never_take_composes_away() -> None:
    compose = {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}
    web, api = labelled(compose, ("SERVICE_NAME=api",)).instances
    assert (web.service, api.service, api.scope) == ("web", "api", "shop")


@pytest.mark.parametrize(
    ("value", "served"), [("true", False), ("yes, please", False), ("", True), ("false", True)]
)
def test_registrators_ignore(value: str, served: bool) -> None:
    assert bool(labelled({"SERVICE_IGNORE": value}).instances) is served
    assert bool(labelled({}, (f"SERVICE_IGNORE={value}",)).instances) is served
    assert labelled({"SERVICE_IGNORE": value, "discoverd.enable": "true"}).instances


def test_what_is_not_served_is_not_remarked_on() -> None:
    assert labelled({"discoverd.enable": "false", "discoverd.ttl": "x"}).notes == ()
