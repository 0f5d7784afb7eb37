"""Writes what a source says as fast as it can until it is killed, over and over.

Run as a program of its own, which forks: one start of the interpreter serves many deaths. Prints one
line of JSON: {"kills", "wrong": [...], "states"}.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from itertools import count
from pathlib import Path

from discoverd.model import Instance
from discoverd.warm import files
from discoverd.warm.codec import Followed, Known, UnusableError

SOURCE = Followed("docker/local", "settings")


def state(number: int) -> Known:
    """What is told from all others by every line of it; some hundred kilobytes."""
    return Known(
        {
            f"o{i}": (Instance(f"{number}", "web", "docker/local", weight=number),)
            for i in range(number % 2000)
        }
    )


def life(folder: Path, start: int, told: int) -> None:
    for number in count(start):
        files.write(folder, SOURCE, state(number), time.time())
        os.write(told, f"{number}\n".encode())


def main(folder: Path, kills: int) -> None:
    wrong: list[str] = []
    states = 0
    sure = -1
    for number in range(kills):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            try:
                life(folder, sure + 1, writer)
            finally:
                os._exit(1)
        os.close(writer)
        with os.fdopen(reader) as lines:
            sure = int(lines.readline())
            time.sleep(random.random() * 0.02)  # anywhere in the middle of a write
            os.kill(pid, signal.SIGKILL)
            for line in lines:
                sure = int(line)
        os.waitpid(pid, 0)
        try:
            found = files.read(folder, SOURCE, 3600)
        except UnusableError as error:
            wrong.append(f"life {number}: {error}")
            continue
        # the write after the last acknowledged one may or may not have been finished
        if found is None or found.known not in (state(sure), state(sure + 1)):
            wrong.append(f"life {number}: not state {sure} or the next")
        states = sure
    sys.stdout.write(json.dumps({"kills": kills, "wrong": wrong, "states": states}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
