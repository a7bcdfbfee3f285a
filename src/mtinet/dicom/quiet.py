"""Silence while pydicom and highdicom work: what they warn of may quote attributes of a patient."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

_turn = RLock()
"""Warnings and the level of a logger belong to the whole process: of two blocks at once, one would put back the
silence of the other for good."""


@contextmanager
def silence() -> Iterator[None]:
    """Without warnings of Python and of highdicom; threads take turns."""
    log = logging.getLogger("highdicom")
    with _turn, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level = log.level
        log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            log.setLevel(level)
