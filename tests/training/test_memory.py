"""What a training frees stays with the process."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import json, resource
import numpy as np
from mtinet.training.memory import keep_freed_memory

PAGES = 64 * 2**20 // resource.getpagesize()

def pages_asked_for():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.full(64 * 2**20, 1, np.uint8)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / PAGES

before = pages_asked_for()
told = keep_freed_memory()
pages_asked_for()  # the first block comes from the system in any case
print(json.dumps([before, told, pages_asked_for()]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the GNU C library is what can be told")
def test_blocks_are_found_again() -> None:
    # in a process of its own: it concerns the whole of it; numpy's huge pages would hide the count
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"NUMPY_MADVISE_HUGEPAGE": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    before, told, after = json.loads(run.stdout)
    assert told
    assert before > 9  # ten blocks, each handed out anew
    assert after < 0.1
