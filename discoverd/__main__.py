"""``python -m discoverd``."""

from discoverd.cli import main

main()
