"""The corpus replayed, and the fuzzer itself for a while."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.fuzz.fuzz_handler import CORPUS, FOUND
from tests.fuzz.invariants import Subject
from tests.real.debian import REPO

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Seconds for which the fuzzer runs within the tests; an hour now and then (``make fuzz``) finds more.
SECONDS = int(os.environ.get("DISCOVERD_FUZZ_SECONDS", "120"))
INPUTS = {path.name: path.read_bytes() for path in sorted(CORPUS.iterdir())} | {
    f"found {line}": bytes.fromhex(line) for line in FOUND.read_text().split()
}


@pytest.mark.parametrize("recursion", [False, True], ids=["no recursion", "recursion"])
@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_the_corpus_passes(tcp: bool, recursion: bool) -> None:
    """Each input twice, so that the second time it is answered from what was kept."""
    subject = Subject(recursion=recursion)
    assert INPUTS
    for name, data in [*INPUTS.items()] * 2:
        try:
            subject.check(data[1:], tcp=tcp)
        except Exception as error:
            raise AssertionError(f"{name}: {error!r}") from error


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris has no build for this Python or machine"
)
@pytest.mark.timeout(SECONDS + 120)
def test_the_fuzzer_finds_nothing(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    (tmp_path / "inputs").mkdir()
    for number, data in enumerate(INPUTS.values()):
        (tmp_path / "inputs" / str(number)).write_bytes(data)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz.fuzz_handler", str(tmp_path / "inputs")),
            *(f"-max_total_time={SECONDS}", f"-artifact_prefix={tmp_path}/", "-print_final_stats=1"),
        ],
        cwd=REPO,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    found = {path.name: path.read_bytes().hex() for path in tmp_path.glob("*-*")}
    assert done.returncode == 0, f"{found}\n{done.stderr[-4000:]}"
    runs = [line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line]
    record_property("measured inputs the fuzzer tried", f"{runs[0]} in {SECONDS} s")
