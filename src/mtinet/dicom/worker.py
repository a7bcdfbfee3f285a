"""The child process that opens files: it reads headers and decodes pixels under limits of memory and time.

It is started by :mod:`mtinet.dicom.contained` and speaks lines of JSON, each followed by as many bytes as
the line says.  Damaged and hostile files may make it crash, hang or run out of memory; its parent then names
the file and starts another.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mtinet.dicom.header_reading import NotDicomError, read_header
from mtinet.dicom.members import open_member


def main() -> None:
    """Serve requests from standard input until it is closed."""
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # decoders print
    os.dup2(nowhere, 2)
    _quiet()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if request["do"] == "start":
            _limit_memory(int(request["memory_bytes"]))
            _send(answers, {})
            continue
        _arm(request["cpu_s"])
        try:
            for values, data in _serve(request):
                _arm(0.0)
                _send(answers, values, data)
                _arm(request["cpu_s"])
        except Exception as error:
            # whatever a damaged file raises is this file's finding, and never stops the rest
            _arm(0.0)
            _send(answers, {"error": _words(error), "kind": _kind(error)})
        _arm(0.0)


def _quiet() -> None:
    import logging
    import warnings

    import pydicom
    import pydicom.pixels  # before the limit of memory is measured

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    with contextlib.suppress(NotDicomError):  # what pydicom loads at first use is nobody's time
        read_header(io.BytesIO(b"\0" * 128 + b"DICM" + b"\x08\0\x60\0CS\x02\0MR"), 142)


def _limit_memory(extra_bytes: int) -> None:
    """Allow ``extra_bytes`` of address space more than now, where the system can."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError):
        return
    limit = pages * resource.getpagesize() + extra_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _arm(seconds: float) -> None:
    """End this process when it has used ``seconds`` of processor time from now; 0 takes that back.

    The signal keeps its default action, so that it also ends a decoder that never returns to Python.
    """
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _send(answers: IO[bytes], values: dict[str, Any], data: bytes | memoryview = b"") -> None:
    answers.write(json.dumps({**values, "bytes": len(data)}).encode() + b"\n")
    answers.write(data)
    answers.flush()


def _serve(request: dict[str, Any]) -> Iterator[tuple[dict[str, Any], bytes]]:
    path, member = Path(request["path"]), request["member"]
    with open_member(path, member) as stream:
        if request["do"] == "header":
            yield {"header": read_header(stream, request["size"]).to_plain()}, b""
            return
        for array in decode(stream, request["frames"]):
            shape = {"dtype": array.dtype.str, "shape": array.shape}
            yield shape, np.ascontiguousarray(array).tobytes()


def decode(stream: IO[bytes], frames: list[int]) -> Iterator[NDArray[Any]]:
    """Decoded frames, each rows x columns, stored values without rescale; gdcm first."""
    import pydicom
    from pydicom.pixels import get_decoder  # type: ignore[attr-defined]

    dataset = pydicom.dcmread(stream, force=True)
    syntax = dataset.file_meta.TransferSyntaxUID
    decoder = get_decoder(syntax)
    plugin = "gdcm" if "gdcm" in decoder.available_plugins else ""
    for frame in frames:
        array, _ = decoder.as_array(dataset, index=frame, raw=True, decoding_plugin=plugin)
        if array.ndim != 2:
            raise ValueError(f"its pixels have {array.ndim} axes where a grey image has two")
        yield array


def _kind(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, RecursionError):
        return "depth"
    return "not-dicom" if isinstance(error, NotDicomError) else "damaged"


def _words(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return text or type(error).__name__


if __name__ == "__main__":
    main()
