"""The documentation: links lead somewhere, what is fenced can be read, what is named is there.

tests/real/test_docs.py runs what is to be run.
"""

from __future__ import annotations

import configparser
import json
import re
import shlex
import subprocess
from typing import TYPE_CHECKING

import click
import pytest
import yaml  # type: ignore[import-untyped]

from discoverd import forwardmetrics, metrics
from discoverd.cli import cli
from discoverd.commands.reference import OTHERS, tables
from discoverd.config import ConfigError, load
from discoverd.config.load import CONSUL_VARIABLES
from discoverd.config.machine import Machine
from discoverd.config.settings import SETTINGS
from discoverd.sources.docker.labels import WORDS
from tests.documents import REPO, Page, page, pages

if TYPE_CHECKING:
    from pathlib import Path

    from tests.documents import Block

PAGES = {each.name: each for each in pages()}
#: Which languages there are, and which of them somebody here can read.
LANGUAGES = {"sh", "console", "toml", "yaml", "json", "ini", "conf", "nginx", "hcl", ""}
KEYS = set(tables())
TABLES = {table for table, _ in KEYS} - {""}
#: Misspelt on purpose, where a page shows what is said to that.
WRONG = {"servce", "DISCOVERD_LISTN"}
#: Labels of the image, which no container is read for.
OF_THE_IMAGE = {"sbom"}
#: Of the tests, in pages about them.
OF_TESTS = {"DISCOVERD_SCREENSHOTS", "DISCOVERD_TEST_CACHE"}

every_page = pytest.mark.parametrize("name", PAGES)


@every_page
def test_links_lead_somewhere(name: str) -> None:
    here = PAGES[name]
    for target in here.links:
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (here.path.parent / path).resolve() if path else here.path
        assert there.exists(), f"{name}: {target}"
        assert there.is_relative_to(REPO), f"{name}: {target}"
        if anchor:
            assert anchor in Page(there).anchors, f"{name}: {target}, there are {sorted(Page(there).anchors)}"


def test_every_page_is_found_from_the_index() -> None:
    index = page("docs/README.md")
    linked = {(index.path.parent / target.partition("#")[0]).resolve() for target in index.links}
    missing = [each.name for each in pages() if each.path.parent.name == "docs" and each.path not in linked]
    assert [each for each in missing if each != index.name] == []
    assert "docs/README.md" in page("README.md").links


def test_every_decision_is_in_its_index() -> None:
    index = page("docs/decisions/README.md")
    for path in sorted(index.path.parent.glob("0*.md")):
        title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        assert f"| [{path.name[:4]}]({path.name}) | {title} |" in index.text, path.name


@every_page
def test_blocks_can_be_read(name: str, tmp_path: Path) -> None:
    for block in PAGES[name].blocks:
        assert block.language in LANGUAGES, f"{name}: {block.language}"
        if block.language == "sh":
            script(block.text)
        elif block.language == "console":
            script("\n".join(commands(block)))
        elif block.language == "toml":
            configuration(block.text, tmp_path)
        elif block.language == "yaml":
            assert isinstance(yaml.safe_load(block.text), dict), block.text
        elif block.language == "json":
            assert json.loads(block.text)
        elif block.language == "ini":
            configparser.ConfigParser(strict=False).read_string(block.text)


def script(text: str) -> None:
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{text}\n{done.stderr}"


def configuration(text: str, folder: Path) -> None:
    """A whole configuration of discoverd: every key is known, every value is taken."""
    (folder / "discoverd.toml").write_text(text)
    assert load({}, {}, folder, Machine()).path == folder / "discoverd.toml"


def commands(block: Block) -> list[str]:
    return [line.removeprefix("$ ") for line in block.text.splitlines() if line.startswith("$ ")]


def invocations(text: str) -> list[str]:
    """The calls of discoverd in a shell's text, each with its words as they stand there."""
    joined = re.sub(r"\\\n\s*", " ", text)
    found = re.findall(
        r"(?:^|[;&|]|\$ |\bexec \S+ )\s*(discoverd (?:[a-z]|--).*?)(?=$|[;&|]|  #)", joined, re.MULTILINE
    )
    return [call.strip() for call in found]


@every_page
def test_calls_of_discoverd_are_understood(name: str, tmp_path: Path) -> None:
    for block in PAGES[name].blocks:
        text = "\n".join(commands(block)) if block.language == "console" else block.text
        for call in invocations(text) if block.language in {"sh", "console"} else ():
            understood(name, shlex.split(call)[1:], tmp_path)


def understood(name: str, words: list[str], folder: Path) -> None:
    """Parsed as the command line itself does; flags of the configuration are loaded as well."""
    group = click.Context(cli, info_name="discoverd", **cli.context_settings)
    if words[0] == "--version":
        return
    command = cli.get_command(group, words[0])
    assert command is not None, f"{name}: discoverd {' '.join(words)}"
    try:
        parsed = command.make_context(words[0], [w for w in words[1:] if w != "..."], parent=group)
    except click.UsageError as error:
        raise AssertionError(f"{name}: discoverd {' '.join(words)}: {error.format_message()}") from None
    flags = {setting.name: parsed.params.get(setting.name) for setting in SETTINGS}
    if words[0] in {"serve", "check", "doctor"}:
        told = ""
        try:
            load(flags, {}, folder, Machine())
        except ConfigError as error:
            told = error.line
        # a page may show what is said to a wrong one
        assert f"discoverd: {told}" in f"discoverd: \n{PAGES[name].text}", f"{name}: {told}"


@every_page
def test_calls_in_prose_name_commands_and_flags_that_exist(name: str) -> None:
    for span in PAGES[name].spans:
        if not re.match(r"discoverd [a-z]", span) or not span.isascii():
            continue
        words = re.sub(r"[\[\]]", " ", span).split()
        command = cli.get_command(click.Context(cli), words[1])
        assert command is not None, f"{name}: `{span}`"
        known = {"--help", *(flag for option in command.params for flag in option.opts)}
        flags = {word for word in words[2 : words.index("--") if "--" in words else None] if word[:2] == "--"}
        assert flags <= known, f"{name}: `{span}`"


@every_page
def test_files_and_tests_that_are_named_are_there(name: str) -> None:
    for span in PAGES[name].spans:
        if found := re.fullmatch(r"((?:discoverd|tests|bench|examples)/[\w./-]*)(?:::(test_\w+))?", span):
            path = REPO / found[1]
            assert path.exists(), f"{name}: `{span}`"
            if found[2]:
                assert re.search(rf"^(async )?def {found[2]}\(", path.read_text(), re.MULTILINE), (
                    f"{name}: `{span}`"
                )


def ratios(section: str) -> dict[str, float]:
    """How many times as many discoverd answers as each peer, as docs/benchmarks has it."""
    text = page("docs/benchmarks/README.md").text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return {
        peer: float(found)
        for peer, found in re.findall(r"^\| ([\w-]+) \| [\d,]+ \| ([\d.]+) ", text, re.MULTILINE)
    }


def test_speeds_are_those_of_the_benchmarks() -> None:
    """Rounded, so that measuring anew does not make them wrong; a quarter off is."""
    rows = re.findall(
        r"^\| ([\w-]+) \| ([\d.]+) \| ([\d.]*) ?\|$", page("docs/operations.md").text, re.MULTILINE
    )
    assert len(rows) == 6
    for peer, udp, tcp in rows:
        for section, said in (("plain", udp), ("tcp", tcp)):
            if said:
                assert 0.8 < float(said) / ratios(section)[peer] < 1.25, (
                    f"{peer} {section}: {ratios(section)[peer]}"
                )


def exposed() -> set[str]:
    """The names of metrics, as they are asked for."""
    code = "".join(
        (REPO / "discoverd" / f"{module}.py").read_text() for module in ("metrics", "forwardmetrics")
    )
    names = set(re.findall(r'"(discoverd_[a-z_]+)"', code)) | {
        f"discoverd_source_{key}" for key in metrics.DETAILS
    }
    assert {each[1] for each in forwardmetrics.GAUGES} < names
    return {name + end for name in names for end in ("", "_total", "_bucket", "_sum", "_count")}


@every_page
def test_metrics_exist(name: str) -> None:
    used = set(re.findall(r"\b(?<![\w/.-])discoverd_[a-z_]+[a-z]\b", PAGES[name].text))
    assert used <= exposed(), f"{name}: {used - exposed()}"


@every_page
def test_keys_of_the_configuration_exist(name: str) -> None:
    for span in PAGES[name].spans:
        if found := re.fullmatch(r"\[+(\w+)\]+ (\w+)( = .*)?", span):  # `[dns] nsid`
            assert (found[1], found[2]) in KEYS, f"{name}: `{span}`"
        elif found := re.fullmatch(r"(\w+)\.(\w+)( = .*)?", span):  # `dns.nsid`
            assert found[1] not in TABLES or (found[1], found[2]) in KEYS, f"{name}: `{span}`"
        elif found := re.fullmatch(r"(\w+) = .+", span):
            assert found[1] in {key for _, key in KEYS}, f"{name}: `{span}`"
        elif found := re.fullmatch(r"\[+(\w+)\]+", span):
            assert found[1] in TABLES | {"main", "Resolve"}, f"{name}: `{span}`"


@every_page
def test_variables_and_labels_exist(name: str) -> None:
    text = PAGES[name].text
    known = {setting.variable for setting in SETTINGS} | OTHERS.keys() | CONSUL_VARIABLES.keys()
    known |= WRONG | OF_TESTS
    assert set(re.findall(r"\bDISCOVERD_[A-Z_]+\b", text)) <= known
    words = {word.partition(".")[0] for word in WORDS} | WRONG | OF_THE_IMAGE
    files = {"toml", "service", "socket", "conf", "test", "docker", "svg", "py"}
    used = set(re.findall(r"(?<![/\w.-])discoverd\.([a-z]+)", text))
    assert used <= words | files, f"{name}: {used - words - files}"
