"""``python -m mtinet.cli``."""

from mtinet.cli import main

main()
