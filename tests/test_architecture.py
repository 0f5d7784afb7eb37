"""The rules of the layout, checked on the syntax trees of the package."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "discoverd"
MODULES = {
    ".".join(path.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

#: What the rest stands on: plain parts that may know each other, though never in a circle.
FOUNDATION = {"accepting", "naming", "nameindex", "registry", "views", "catalog", "config", "datagrams"}
FOUNDATION |= {"eventloop"}
FOUNDATION |= {"host", "interfaces", "ledger", "log", "privileges", "registration", "supervise", "systemd"}
FOUNDATION |= {"takeover", "thishost", "warm"}
#: What a component may import stands in a line before it; each name is a module or package of discoverd.
ORDER = (
    {"model"},
    FOUNDATION,
    {"resolver", "sources"},
    {"checks", "dns", "forwardmetrics", "http", "metrics", "querylog"},
    {"answering"},
    {"wiring", "workers"},
    {"state", "webside"},
    {"app"},
    {"service"},
    {"commands", "cli", "__main__"},
)
#: What a component may know of its own line.
SIDEWAYS = {
    **dict.fromkeys(FOUNDATION, FOUNDATION),
    "http": {"dns"},
    "forwardmetrics": {"dns"},
    "metrics": {"dns", "forwardmetrics"},
    "querylog": {"dns"},
    "cli": {"commands"},
    "__main__": {"cli"},
}
#: Beyond the order: a transport is given its handler, a source is given where to write.
NEVER = {"dns": {"registry"}, "sources": {"registry", "views", "host"}}

#: Each of these libraries is known in one place only.
HOMES = {
    "dnslib": ("discoverd.dns",),
    "docker": ("discoverd.sources.docker",),
    "consul": ("discoverd.sources.consul",),
    "click": ("discoverd.cli", "discoverd.commands"),
    "rich": ("discoverd.cli", "discoverd.commands"),
}
#: Lines; a module that grows beyond is two.
MOST_LINES = 400


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imports(node: ast.AST, *, at_run_time: bool = False) -> Iterator[str]:
    """Every module imported below a node; ``at_run_time`` leaves out what only type checkers see."""
    for child in ast.iter_child_nodes(node):
        if at_run_time and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"a relative import: {ast.unparse(child)}"
            for alias in child.names:
                whole = f"{child.module}.{alias.name}"
                yield whole if whole in MODULES else str(child.module)
        else:
            yield from imports(child, at_run_time=at_run_time)


def component(module: str) -> str:
    """``dns`` of ``discoverd.dns.wire``; empty for the package itself."""
    return ".".join(module.split(".")[1:2])


def rank(name: str) -> int:
    for number, names in enumerate(ORDER):
        if name in names:
            return number
    raise AssertionError(f"discoverd.{name} has no place in ORDER yet")


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_one_way(module: str) -> None:
    own = component(module)
    for imported in imports(tree_of(module)):
        other = component(imported)
        if not within(imported, "discoverd") or not other or other == own:
            continue
        assert own, f"{module} is what everything else begins with, it imports nothing: {imported}"
        allowed = rank(other) < rank(own) or other in SIDEWAYS.get(own, ())
        assert allowed, f"{module} must not import {imported}"
        assert other not in NEVER.get(own, ()), f"{module} must not import {imported}"


def test_sources_do_not_know_each_other() -> None:
    for module in MODULES:
        if not within(module, "discoverd.sources"):
            continue
        for imported in imports(tree_of(module)):
            if within(imported, "discoverd.sources") and imported != "discoverd.sources.base":
                own, other = module.split(".")[2:3], imported.split(".")[2:3]
                assert own == other, f"{module} must not import {imported}"


def test_no_module_needs_itself() -> None:
    graph = {
        module: {
            name for name in imports(tree_of(module), at_run_time=True) if name in MODULES and name != module
        }
        for module in MODULES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"these import each other: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("library", sorted(HOMES))
def test_libraries_stay_at_home(library: str) -> None:
    for module in MODULES:
        if any(within(imported, library) for imported in imports(tree_of(module))):
            assert any(within(module, home) for home in HOMES[library]), f"{module} must not import {library}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_task_has_a_name_and_an_owner(module: str) -> None:
    tree = tree_of(module)
    dropped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        where = f"{module}:{node.lineno}"
        owner = ast.unparse(node.func.value)
        assert node.func.attr != "ensure_future", f"{where}: a task without an owner"
        if node.func.attr == "create_task":
            assert owner != "asyncio", f"{where}: a task without an owner: use discoverd.supervise.spawn"
            assert any(keyword.arg == "name" for keyword in node.keywords), f"{where}: a task without a name"
            kept = id(node) not in dropped or owner.endswith("group")
            assert kept, f"{where}: nobody keeps this task, it may be collected while it runs"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_commands_print_and_exit(module: str) -> None:
    if component(module) in {"cli", "commands"}:
        return
    calls = {ast.unparse(node.func) for node in ast.walk(tree_of(module)) if isinstance(node, ast.Call)}
    assert not calls & {"print", "exit", "quit", "sys.exit"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_modules_are_small_and_say_what_they_are(module: str) -> None:
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    assert ast.get_docstring(tree_of(module)) or not tree_of(module).body, f"{module} has no docstring"


def test_the_rules_see_what_they_forbid() -> None:
    tree = ast.parse("import docker.errors\nif TYPE_CHECKING:\n    from discoverd.dns import wire\n")
    assert list(imports(tree)) == ["docker.errors", "discoverd.dns.wire"]
    assert list(imports(tree, at_run_time=True)) == ["docker.errors"]
    assert "discoverd.cli" in MODULES
    assert "discoverd.config" in MODULES
