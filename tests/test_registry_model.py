"""The registry against a model that is made anew after every step, and what it costs."""

from __future__ import annotations

import cProfile
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from discoverd.model import Instance
from discoverd.naming import ancestors, bindings
from discoverd.registry import Registry
from discoverd.resolver.local import Local, Settings
from tests.build import static, unhurried
from tests.strategies import instances, of_source

if TYPE_CHECKING:
    from collections.abc import Callable


REPO = Path(__file__).resolve().parents[1]

said = st.dictionaries(st.sampled_from(["k1", "k2", "k3"]), st.lists(instances(), max_size=3), max_size=3)
Said = dict[str, list[Instance]]


@unhurried
@given(st.lists(st.tuples(st.sampled_from(["one", "two"]), st.none() | said, st.booleans()), max_size=12))
def test_any_sequence_leads_where_a_registry_made_anew_would_be(
    operations: list[tuple[str, Said | None, bool]],
) -> None:
    registry = Registry()
    model: dict[str, dict[str, dict[str, Instance]]] = {}
    for source, objects, full in operations:
        if source not in model:
            registry.writer(source, "test")
            model[source] = {}
        if objects is None:
            registry.forget(source)
            del model[source]
        else:
            groups = {k: {i.id: of_source(i, source) for i in group} for k, group in objects.items()}
            registry.write(source, {k: group.values() for k, group in groups.items()}, full=full)
            model[source] = ({} if full else model[source]) | groups
        _compare(registry, [i for o in model.values() for group in o.values() for i in group.values()])


def _compare(registry: Registry, held: list[Instance]) -> None:
    assert Counter(registry.instances()) == Counter(held)
    names: dict[str, Counter[Instance]] = {}
    addresses: dict[object, Counter[Instance]] = {}
    for instance in held:
        for name in bindings(instance):
            names.setdefault(name, Counter())[instance] += 1
        for address in {a.ip for a in instance.addresses}:
            addresses.setdefault(address, Counter())[instance] += 1
    index = registry.names
    assert {n: Counter(b.instance for b in index._bound[n]) for n in index.bound()} == names
    assert index.wildcards == sum(name.startswith("*") for name in names)
    assert index._above._below == Counter(above for name in names for above in ancestors(name))
    assert {a: Counter(i) for a, i in registry._addresses.items()} == addresses
    for one in registry._addresses.values():
        assert [i.started_at for i in one] == sorted((i.started_at for i in one), reverse=True)


# -- cost --------------------------------------------------------------------------------------


def _many(count: int, services: int) -> dict[str, list[Instance]]:
    objects: dict[str, list[Instance]] = {}
    for i in range(count):
        service = f"service-{i % services}"
        address = f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}"
        objects.setdefault(service, []).append(static(service, address, id=f"static/{service}/{address}"))
    return objects


def test_a_change_costs_the_same_in_a_small_and_in_a_large_registry() -> None:
    """Counted in calls of functions, because seconds depend on what else the machine does."""

    def calls(count: int, services: int) -> int:
        registry = Registry()
        Local(registry, Settings())
        writer = registry.writer("static", "static")
        writer.replace(_many(count, services))
        one = static("service-0", "192.0.2.1")
        profile = cProfile.Profile()
        profile.runcall(writer.publish, "another", [one])
        profile.runcall(writer.publish, "another", [])
        return sum(entry.callcount for entry in profile.getstats())

    few, many, crowded = calls(100, 50), calls(10_000, 5_000), calls(10_000, 1)
    assert many <= few
    assert crowded <= 3 * few, "a service that has all instances is searched by halves"


def test_a_hundred_thousand_instances_fit_into_400_mib(
    record_property: Callable[[str, object], None],
) -> None:
    run = subprocess.run([sys.executable, "-c", LOAD], cwd=REPO, check=True, capture_output=True, text=True)
    seconds, mib = run.stdout.split()
    record_property("measured 100,000 static instances", f"{seconds} s of CPU, {mib} MiB in all")
    assert int(mib) < 400


LOAD = """
import re, time
from discoverd.registry import Registry
from discoverd.resolver.local import Local, Settings
from tests.test_registry_model import _many

objects = _many(100_000, 20_000)
registry = Registry()
local = Local(registry, Settings())
begun = time.process_time()
registry.writer("static", "static").replace(objects)
assert len(registry.names.at("service-0")) == 5
# of this program alone: what getrusage says is also the parent's, from before it was replaced
mib = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024
print(round(time.process_time() - begun, 1), mib)
"""
