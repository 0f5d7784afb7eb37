"""The label ``discoverd.check``, and the engine's own check that goes before it."""

from __future__ import annotations

import pytest

from discoverd.model import Check, CheckKind, Health
from tests.sources.docker.recorded import container, labelled, load


@pytest.mark.parametrize(
    ("label", "check"),
    [
        ("tcp:8080", Check(CheckKind.TCP, 8080)),
        ("TCP:1", Check(CheckKind.TCP, 1)),
        ("http:80", Check(CheckKind.HTTP, 80)),
        ("http:8080/ready?deep=1", Check(CheckKind.HTTP, 8080, "/ready?deep=1")),
        ("dns:53/db.example.com", Check(CheckKind.DNS, 53, "db.example.com")),
    ],
)
def test_what_a_label_asks_for(label: str, check: Check) -> None:
    found = labelled({"discoverd.check": label})
    assert {instance.check for instance in found.instances} == {check}
    assert not found.notes
    assert str(check) == label.lower()


@pytest.mark.parametrize(
    "label",
    [
        *("", "8080", "tcp", "tcp:", "tcp:0", "tcp:65536", "tcp:80/x", "udp:53", "http:80 /x", "http:/x"),
        *("http:80/\r\nX: y", "http:80/é", "dns:53", "dns:53/", "dns:53/a..b", "dns:53/" + "a" * 64),
        *("http:80/" + "a" * 300, "tcp:\u0663", "cmd:rm"),
    ],
)
def test_what_is_none_is_said_and_left_out(label: str) -> None:
    found = labelled({"discoverd.check": label})
    assert {instance.check for instance in found.instances} == {None}
    (note,) = found.notes
    assert note.endswith("expected tcp:PORT, http:PORT/PATH or dns:PORT/NAME; ignored")


@pytest.mark.parametrize("engine", ["engine-20", "engine-26"])
def test_a_healthcheck_goes_before_it(engine: str) -> None:
    config = load(engine, "db-unhealthy")["Config"]
    labels = {**config["Labels"], "discoverd.check": "tcp:5432"}
    found = container(engine, "db-unhealthy", Config={**config, "Labels": labels})
    assert [(i.health, i.check) for i in found.instances] == [(Health.UNHEALTHY, None)]
    assert "label discoverd.check is not needed: it has a HEALTHCHECK, and that one counts" in found.notes
