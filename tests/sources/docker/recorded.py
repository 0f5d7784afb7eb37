"""What real engines said (tests/data/docker, made by record.sh there), read as discoverd reads it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discoverd.sources.docker.networks import NetworkMap, parse_networks
from discoverd.sources.docker.parse import Container, parse_container
from discoverd.sources.docker.settings import DockerSettings

if TYPE_CHECKING:
    from discoverd.model import Instance

DATA = Path(__file__).parents[2] / "data" / "docker"
#: Docker 20.10 (API 1.41) and 26.1 (API 1.45).
ENGINES = ("engine-20", "engine-26")
SETTINGS = DockerSettings(url="unix:///run/docker.sock")


@cache
def _text(engine: str, name: str) -> str:
    return (DATA / engine / f"{name}.json").read_text(encoding="utf-8")


def load(engine: str, name: str) -> Any:
    """A fresh copy, free to be changed."""
    return json.loads(_text(engine, name))


def names(engine: str) -> list[str]:
    """The recorded containers."""
    return sorted(p.stem for p in (DATA / engine).glob("*.json") if p.stem not in {"list", "networks"})


def networks(engine: str, settings: DockerSettings = SETTINGS) -> NetworkMap:
    return parse_networks(load(engine, "networks"), settings.name)


def container(
    engine: str, name: str, settings: DockerSettings = SETTINGS, host: Container | None = None, **changes: Any
) -> Container:
    """A recorded container with changes, such as ``State={"Paused": True}`` for only that."""
    doc = load(engine, name)
    for section, values in changes.items():
        doc[section] = {**doc[section], **values}
    return parse_container(doc, settings, networks(engine, settings), host)


def instance(engine: str, name: str, settings: DockerSettings = SETTINGS, **changes: Any) -> Instance:
    """The only instance of a recorded container."""
    (only,) = container(engine, name, settings, **changes).instances
    return only


def labelled(
    labels: dict[str, str], env: tuple[str, ...] = (), name: str = "registrator", **settings: Any
) -> Container:
    """A plain container with these labels and environment instead of its own."""
    config = {**load("engine-26", name)["Config"], "Labels": labels, "Env": list(env)}
    return container("engine-26", name, replace(SETTINGS, **settings), Config=config)
