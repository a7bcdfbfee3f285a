"""``python -m mtinet``."""

from mtinet.cli import main

main()
