"""Coverage-guided fuzzing of the handler: ``python -m tests.fuzz.fuzz_handler [CORPUS...] [-OPTION=...]``.

Arguments are libFuzzer's; without any it runs until it finds something. It needs atheris.

The first octet of an input chooses between UDP and TCP, and whether the asker may have names
forwarded; the rest is the message. What is found ends up in a file ``crash-...``: put it into
tests/fuzz/corpus, which the tests replay.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

#: A query of each kind, and what an hour of fuzzing found to take a way of its own, in hexadecimal.
CORPUS = Path(__file__).parent / "corpus"
FOUND = Path(__file__).parent / "found.txt"
#: Octets of an input: more than one message of each kind takes.
LONGEST = 1024


def main(arguments: list[str]) -> None:
    atheris = importlib.import_module("atheris")

    with atheris.instrument_imports(include=["discoverd.dns", "discoverd.resolver", "discoverd.nameindex"]):
        from tests.fuzz.invariants import Subject

    subjects = [Subject(), Subject(recursion=True)]

    def one_input(data: bytes) -> None:
        if data:
            subjects[data[0] >> 1 & 1].check(data[1:], tcp=bool(data[0] & 1))

    atheris.Setup([sys.argv[0], f"-max_len={LONGEST}", *arguments], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
