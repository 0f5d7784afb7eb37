"""The pages that are made from the code: they are what the code gives, and all of it is in them."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import pytest

from discoverd.cli import cli
from discoverd.commands import labels, reference, whole
from discoverd.config import load
from discoverd.config.machine import Machine
from discoverd.config.settings import SETTINGS
from discoverd.sources.docker.labels import PREFIX, REGISTRATOR, WORDS
from tests.real.debian import REPO
from tests.sources.docker.recorded import labelled

if TYPE_CHECKING:
    from pathlib import Path

MADE = {
    "configuration.md": lambda: reference.configuration(cli),
    "labels.md": labels.page,
}
PAGE = reference.configuration(cli)
#: Of the process's own surroundings, which nobody sets for discoverd.
USUAL = {"HOME", "PATH", "PYTHONPATH"}


@pytest.mark.parametrize("page", MADE)
def test_the_pages_are_what_the_code_gives(page: str) -> None:
    assert (REPO / "docs" / page).read_text(encoding="utf-8") == MADE[page](), "make them anew: make docs"


def test_every_key_is_set_in_the_examples_and_they_hold(tmp_path: Path) -> None:
    (tmp_path / "discoverd.toml").write_text("\n".join(whole.TABLES.values()))
    config = load({}, {}, tmp_path, Machine())
    raw = tomllib.loads("\n".join(whole.TABLES.values()))
    given = {("", key) for key, value in raw.items() if key not in whole.TABLES}
    for table in whole.TABLES.keys() - {""}:
        entries = raw[table] if isinstance(raw[table], list) else [raw[table]]
        given |= {(table, key) for entry in entries for key in entry}
    assert given == set(reference.tables())
    assert config.redacted()["service"][0]["name"] == "db"


@pytest.mark.parametrize("table", whole.TABLES)
def test_each_example_holds_by_itself(table: str, tmp_path: Path) -> None:
    (tmp_path / "discoverd.toml").write_text(whole.TABLES[table])
    assert load({}, {}, tmp_path, Machine()).path == tmp_path / "discoverd.toml"


def test_every_flag_and_variable_is_there() -> None:
    for setting in SETTINGS:
        assert f"`{setting.flag} {setting.metavar}`".replace("|", "\\|") in PAGE
        assert f"| `{setting.variable}` |" in PAGE


def test_every_variable_that_the_code_reads_is_there() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (REPO / "discoverd").rglob("*.py"))
    read = set(re.findall(r'environ\.(?:get|pop)\("(\w+)"', code)) - USUAL
    assert {"DOCKER_HOST", "STATE_DIRECTORY", "NOTIFY_SOCKET"} <= read
    assert [name for name in sorted(read) if f"| `{name}` |" not in PAGE] == []
    # what is said of others is true of variables that the code knows
    assert [name for name in reference.OTHERS if f'"{name}"' not in code] == []


def test_every_example_of_a_label_is_read_without_a_remark() -> None:
    given = {PREFIX + word: example for word, (_, _, example) in WORDS.items()}
    given["discoverd.network"] = "bridge"
    told = labelled({**given, "discoverd.enable": "true"}, name="labelled")
    assert told.notes == ()
    (found,) = told.instances
    assert (found.service, found.scope, found.ttl, found.weight) == ("web", "shop", 0, 3)
    assert found.tags == ("v1", "canary")
    assert found.extra_names == ("portal", "a.b", "*.pages")
    assert found.meta == (("KEY", "1.4"),)
    theirs = {word.replace("<port>", "80"): example for word, (_, _, example) in REGISTRATOR.items()}
    assert labelled({**theirs, "SERVICE_IGNORE": "false"}).notes == ()
    assert labelled(theirs).instances == ()


def test_a_label_without_a_row_is_none() -> None:
    assert any("means nothing" in note for note in labelled({"discoverd.servic": "x"}).notes)
    assert "discoverd.servic`" not in labels.page()
