"""Files are opened in a child process that is limited in memory and time, and replaced when it dies."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess  # ours: the same Python, our own module
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtinet.dicom.headers import Header
from mtinet.dicom.members import close_zip
from mtinet.dicom.sources import SourceFile
from mtinet.errors import UserError

CPU_S = 2.0
"""Processor time for a header, or for a frame, of a file of up to :data:`CPU_S_PER_BYTES`."""
CPU_S_PER_BYTES = 16 << 20
"""A larger file has this many seconds more in proportion: thousands of frames are thousands of headers."""
WALL_FACTOR = 15.0
"""Waiting time over processor time: other programs may hold the processor."""
MEMORY_BYTES = 1 << 30
"""Memory of the child above what it needs for itself."""

_KINDS = {
    "memory": "needs more than 1 GiB of memory to be read",
    "depth": "nests its sequences too deeply",
    "time": "takes too long to be read",
    "crash": "makes the decoder crash",
}


class UnreadableError(UserError):
    """A file cannot be read.  ``kind``: not-dicom, damaged, memory, depth, time or crash."""

    def __init__(self, name: str, kind: str, detail: str = "") -> None:
        self.name, self.kind, self._detail = name, kind, detail
        self.why = _KINDS.get(kind, f"is damaged ({detail})" if detail else "is damaged")
        super().__init__(f"{name} {self.why}; export or copy it again")

    def __reduce__(self) -> tuple[Any, ...]:
        # by default an error is made again from its message, and another process could not read it
        return type(self), (self.name, self.kind, self._detail), self.__dict__


class Reader:
    """Reads headers and decodes pixels in a child process; use it as a context or close it.

    Parameters
    ----------
    cpu_s : float
        Processor time for a file (see :data:`CPU_S`).
    memory_bytes : int
    """

    def __init__(self, cpu_s: float = CPU_S, memory_bytes: int = MEMORY_BYTES) -> None:
        self._cpu_s, self._memory_bytes = cpu_s, memory_bytes
        self._child: subprocess.Popen[bytes] | None = None
        self._buffer = bytearray()
        self._lock = threading.Lock()

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()

    def rest(self) -> None:
        """End the child when it has answered what other threads asked; the next question starts another."""
        with self._lock:
            self.close()

    def header(self, file: SourceFile) -> Header:
        """The header of a file.

        Raises
        ------
        UnreadableError
        """
        request = {"do": "header", "size": file.size}
        with self._lock:
            values, _ = next(self._ask(file, request, answers=1))
        return Header.from_plain(values["header"])

    def frames(self, file: SourceFile, frames: Sequence[int]) -> Iterator[NDArray[Any]]:
        """Decoded frames (from 0), each rows x columns, stored values.

        Raises
        ------
        UnreadableError
        """
        request = {"do": "frames", "frames": list(frames)}
        with self._lock:
            for values, data in self._ask(file, request, answers=len(frames)):
                yield np.frombuffer(data, np.dtype(values["dtype"])).reshape(values["shape"])

    def _ask(
        self, file: SourceFile, request: dict[str, Any], answers: int
    ) -> Iterator[tuple[dict[str, Any], bytes]]:
        cpu_s = self._cpu_s * max(1, -(-file.size // CPU_S_PER_BYTES))
        asked = {**request, "path": str(file.path), "member": file.member, "cpu_s": cpu_s}
        left = answers
        try:
            self._start()
            self._write(asked)
            while left:
                values, data = self._answer(time.monotonic() + cpu_s * WALL_FACTOR)
                if "error" in values:
                    left = 0
                    raise UnreadableError(file.name, values["kind"], values["error"])
                left -= 1
                yield values, data
        except TimeoutError:
            raise UnreadableError(file.name, "time") from None
        except (EOFError, BrokenPipeError):
            raise UnreadableError(file.name, self._death()) from None
        finally:
            if left:  # the rest of its answers would be taken for those of the next file
                self.close()

    def _start(self) -> None:
        if self._child is not None and self._child.poll() is None:
            return
        self.close()
        place = str(Path(__file__).parents[2])
        paths = [place, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._buffer.clear()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "mtinet.dicom.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        )
        self._write({"do": "start", "memory_bytes": self._memory_bytes})
        self._answer(time.monotonic() + 120.0)

    def _write(self, values: dict[str, Any]) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(values).encode() + b"\n")
        self._child.stdin.flush()

    def _answer(self, deadline: float) -> tuple[dict[str, Any], bytes]:
        while (end := self._buffer.find(b"\n")) < 0:
            self._receive(deadline)
        values: dict[str, Any] = json.loads(self._buffer[:end])
        del self._buffer[: end + 1]
        while len(self._buffer) < values["bytes"]:
            self._receive(deadline)
        data = bytes(self._buffer[: values["bytes"]])
        del self._buffer[: values["bytes"]]
        return values, data

    def _receive(self, deadline: float) -> None:
        assert self._child is not None
        assert self._child.stdout is not None
        pipe = self._child.stdout.fileno()
        if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        part = os.read(pipe, 1 << 20)
        if not part:
            raise EOFError
        self._buffer += part

    def _death(self) -> str:
        """Why the child ended."""
        assert self._child is not None
        code = self._child.wait()
        if code == -getattr(signal, "SIGPROF", 0):
            return "time"
        return "memory" if code == -getattr(signal, "SIGKILL", 0) else "crash"


_shared: dict[int, Reader] = {}


def shared_reader() -> Reader:
    """One reader for this process, ended with it; a forked process gets its own."""
    process = os.getpid()
    if process not in _shared:
        _shared.clear()
        _shared[process] = Reader()
        atexit.register(_shared[process].close)
    return _shared[process]


@contextmanager
def zips_closed() -> Iterator[None]:
    """Close behind the block the zip that this process and its reader keep open: its file may be removed then."""
    try:
        yield
    finally:
        if close_zip() and os.getpid() in _shared:
            _shared[os.getpid()].rest()
