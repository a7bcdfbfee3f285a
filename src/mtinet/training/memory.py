"""Memory between the steps of a training."""

from __future__ import annotations

import ctypes

# numbers of malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, so that the next step finds it again.

    The GNU C library returns large blocks to the system as soon as they are freed.  The maps of a step come and go
    by the hundred, and the system hands out every page of theirs anew, zeroed: an eighth of a step of the preset
    ``small`` at 24 channels on one core.  At most the process holds hardly more, since every step needs the same.  It
    concerns the whole process, so it is for whoever owns it (a command, a worker), not for a part of a library.

    Returns
    -------
    bool
        Whether the C library could be told; others (macOS, Windows, musl) are left as they are.
    """
    tell = getattr(ctypes.pythonapi, "mallopt", None)  # pythonapi: the program itself, so its own C library
    if tell is None:
        return False
    no_mapped_blocks = tell(ctypes.c_int(M_MMAP_MAX), ctypes.c_int(0))
    nothing_returned = tell(ctypes.c_int(M_TRIM_THRESHOLD), ctypes.c_int(-1))
    return bool(no_mapped_blocks and nothing_returned)
