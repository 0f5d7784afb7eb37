"""``python -m discoverd.workers CHANNEL PARENT``: what the main process starts, and nobody else."""

import sys

from discoverd.workers.process import main

main(int(sys.argv[1]), int(sys.argv[2]))
