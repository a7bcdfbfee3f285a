"""Silence ends with its block, whoever else is silent."""

from __future__ import annotations

import logging
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from mtinet.dicom.quiet import silence


def state():
    return list(warnings.filters), logging.getLogger("highdicom").level


def test_blocks_of_several_threads_leave_warnings_as_they_were():
    before, within = state(), Event()

    def first():
        with silence():
            within.set()
            time.sleep(0.1)

    def second():
        within.wait()
        with silence():
            time.sleep(0.2)

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(first), threads.submit(second)]:
            done.result()
    assert state() == before


def test_a_block_within_another_and_an_error_leave_warnings_as_they_were():
    before = state()
    with pytest.raises(ValueError, match="within"), silence(), silence():
        raise ValueError("within")
    assert state() == before
