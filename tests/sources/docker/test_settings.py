from __future__ import annotations

from typing import Any

import pytest

from discoverd.sources.docker import DockerSettings, default_name, distinct


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("unix:///var/run/docker.sock", "local"),
        ("tcp://db.example:2375", "db-example"),
        ("tcp://[fd00::1]:2375", "fd00-1"),
        ("https://10.0.0.1", "10-0-0-1"),
        ("ssh://ops@rack-2:2222/run/docker.sock", "rack-2"),
    ],
)
def test_default_names(url: str, name: str) -> None:
    assert default_name(url) == name
    assert DockerSettings(url=url).name == name


def test_names_are_made_distinct() -> None:
    engines = [
        DockerSettings(url=f"unix:///{n}", name=name) for n, name in enumerate(("", "", "local-2", "x"))
    ]
    made = distinct(engines)
    assert [e.name for e in made] == ["local", "local-2", "local-2-2", "x"]
    assert [e.url for e in made] == [e.url for e in engines]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"url": "ssh://host", "tls_ca": "ca"}, "mean nothing where ssh is the way"),
        ({"url": "/var/run/docker.sock"}, "expected unix:///path, tcp://host:port or ssh://user@host"),
        ({"url": "tcp://h", "tls_cert": "c"}, "tls_cert and tls_key are needed together"),
        ({"url": "unix:///x", "names": ("plain",)}, "expected fields of"),
        ({"url": "unix:///x", "names": ("{color}",)}, "expected fields of"),
        ({"url": "unix:///x", "names": ("{label:}",)}, "expected fields of"),
        ({"url": "unix:///x", "names": ("{service:x}",)}, "expected fields of"),
        ({"url": "unix:///x", "names": ("{service}.{",)}, "expected fields of"),
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        DockerSettings(**values)


@pytest.mark.parametrize(
    ("values", "tls"),
    [
        ({"url": "tcp://h"}, False),
        ({"url": "https://h"}, True),
        ({"url": "tcp://h", "tls_ca": "ca"}, True),
        ({"url": "tcp://h", "tls_cert": "c", "tls_key": "k"}, True),
        ({"url": "tcp://h", "tls_verify": False}, False),
    ],
)
def test_when_tls_is_spoken(values: dict[str, Any], tls: bool) -> None:
    assert DockerSettings(**values).tls is tls
