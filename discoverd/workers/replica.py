"""A worker's side: the copy of the registry and of Consul's catalog, brought up to date."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from discoverd.catalog import Catalog
    from discoverd.model import Instance
    from discoverd.registry import Registry
    from discoverd.workers.messages import Current, Outline, Update


def apply(update: Update, registry: Registry, catalog: Catalog) -> None:
    """Take in an update. What its own words say is no more is gone with all that it had."""
    if update.outline is not None:
        _outline(update.outline, registry, catalog)
    known = {status.name for status in registry.statuses()}
    by_source: dict[str, dict[str, tuple[Instance, ...]]] = {}
    for source, key, group in update.objects:
        if source in known:
            by_source.setdefault(source, {})[key] = group
    for source, objects in by_source.items():
        registry.write(source, objects, full=False)
    for name, gone in update.gone:
        registry.set_gone(name, gone)
    for datacenter, service, endpoints in update.services:
        if catalog.at(datacenter) is not None:
            catalog.set_service(datacenter, service, endpoints)
    for datacenter, nodes in update.nodes:
        if catalog.at(datacenter) is not None:
            catalog.set_nodes(datacenter, nodes)
    if update.current is not None:
        _current(update.current, registry, catalog)


def _outline(outline: Outline, registry: Registry, catalog: Catalog) -> None:
    known = {status.name for status in registry.statuses()}
    for name, kind in outline.sources:
        if name not in known:
            registry.writer(name, kind)
    for name in known - {name for name, _ in outline.sources}:
        registry.forget(name)
    for name, networks in outline.networks:
        registry.set_networks(name, networks)
    for datacenter in outline.followed:
        catalog.follow(datacenter)
    for datacenter in catalog.followed.keys() - set(outline.followed):
        catalog.followed.pop(datacenter)


def _current(current: Current, registry: Registry, catalog: Catalog) -> None:
    known = {status.name: status for status in registry.statuses()}
    for name, state, restored in current.states:
        if name in known:
            registry.set_status(replace(known[name], state=state, restored=restored))
    catalog.home, catalog.datacenters = current.home, current.datacenters
    for name, held in catalog.followed.items():
        held.synced, held.restored = name in current.synced, name in current.restored
    registry.go_by(current.serial)
