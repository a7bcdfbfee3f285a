"""Who computes a network: torch, or onnxruntime and OpenVINO from its graphs."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import logging
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtinet import files, provenance
from mtinet.data.cache import cache_folder
from mtinet.errors import UserError
from mtinet.inference.graphs import SIZES_2D, optional_package, random_sample, write_graphs
from mtinet.inference.passes import Batch, Passes, RegionValues, Segmented, TorchPasses
from mtinet.model.network import MultiTaskNetwork

_log = logging.getLogger(__name__)

BACKENDS = ("torch", "onnxruntime", "openvino")

GRAPH_FORMAT = 3
"""Version of the graphs in the user's cache: others are made anew."""

ENGINE_REVISION = 1
"""Version of how backends take a graph: with another one it is tried out again."""

_SIZES = 4
"""Sizes of images for which OpenVINO's compiled graphs are kept."""

_AGREEMENT = 1e-3
"""Largest difference of a freshly made graph to the network, as a share of the largest value."""

Arrays = dict[str, NDArray[Any]]
Engine = Callable[[Arrays], Arrays]
"""Computes a graph: inputs by name to outputs by name."""


class GraphPasses:
    """The passes of a network from its graphs.

    Parameters
    ----------
    segment, read : callable
        Engines of the two graphs.
    """

    images = 1

    def __init__(self, segment: Engine, read: Engine) -> None:
        self._segment, self._read = segment, read

    def segment(self, batch: Batch) -> Segmented:
        """See :class:`~mtinet.inference.passes.Passes`."""
        found = _computed(self._segment, image=batch.image, phase_present=batch.present)
        return Segmented(found["mask_logits"], found["description"])

    def read(self, batch: Batch, regions: Tensor) -> RegionValues:
        """See :class:`~mtinet.inference.passes.Passes`."""
        found = _computed(
            self._read,
            image=batch.image,
            phase_present=batch.present,
            phase_times_s=batch.times_s,
            regions=regions.float(),
        )
        return RegionValues(*(found.get(name) for name in RegionValues._fields))  # type: ignore[arg-type]


def _computed(engine: Engine, **inputs: Tensor) -> dict[str, Tensor]:
    found = engine({name: np.ascontiguousarray(tensor.numpy()) for name, tensor in inputs.items()})
    return {name: torch.from_numpy(value) for name, value in found.items()}


def onnxruntime_engine(path: Path) -> Engine:
    """A graph in onnxruntime, on the CPU with torch's number of threads."""
    runtime = optional_package("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    taken = {value.name for value in session.get_inputs()}
    outputs = [value.name for value in session.get_outputs()]

    def compute(arrays: Arrays) -> Arrays:
        given = {name: value for name, value in arrays.items() if name in taken}
        return dict(zip(outputs, session.run(outputs, given), strict=True))

    return compute


@cache
def openvino_core(openvino: ModuleType) -> Any:
    """OpenVINO's core, one for this process and never given back.

    Every core lends the thread that first compiles with it a stack for signals, and takes it away with itself. Of two
    cores the first is often given up first, the second then hands back the first one's, and the next signal that
    Python handles (Ctrl-C, or the end of a child) is the end of the process.
    """
    return openvino.Core()


def openvino_engine(path: Path) -> Engine:
    """A graph (ONNX or OpenVINO's own format) in OpenVINO, on the CPU with torch's number of threads.

    The images of a study have one size, and for a size that is known OpenVINO makes much faster code: a graph is
    compiled for the sizes that it meets.  How many regions an image has changes all the time, so their number,
    and nothing else, stays open.  Threads take turns: a compiled graph has one place for its inputs and outputs.
    """
    core = openvino_core(optional_package("openvino", "openvino"))
    model = core.read_model(path)
    _without_logarithms(model)
    _with_transpositions(model)
    open_shapes = {value.any_name: value.partial_shape for value in model.inputs}
    outputs = [value.any_name for value in model.outputs]
    # single precision: on some processors the default is bfloat16, which moves masks
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}

    turn = Lock()

    @lru_cache(maxsize=_SIZES)
    def compiled(sizes: tuple[tuple[str, tuple[int, ...]], ...]) -> Any:
        model.reshape({**open_shapes, **dict(sizes)})
        return core.compile_model(model, "CPU", settings)

    def compute(arrays: Arrays) -> Arrays:
        given = {name: value for name, value in arrays.items() if name in open_shapes}
        sizes = {name: value.shape for name, value in given.items()}
        if "regions" in sizes:
            images, _, *size = sizes["regions"]
            sizes["regions"] = (images, -1, *size)
        with turn:
            found = compiled(tuple(sizes.items()))(given)
            # what is found lies where the next call writes
            return {name: np.array(found[name]) for name in outputs}

    return compute


def _without_logarithms(model: Any) -> None:
    """Put square roots and a polynomial in the place of an OpenVINO model's logarithms.

    OpenVINO computes logarithms number by number, which takes a fifth of MTI-Net's time (MdIEF's entropies).
    log x = 32 log b with b the fifth square root of x, and log b = 2 artanh z with z = (b - 1)/(b + 1): from 1e-12
    to 1e12, more than the entropies meet, |z| < 0.41 and the terms up to z^13 give 6e-6.
    """
    ops = importlib.import_module("openvino.opset13")

    def number(value: float) -> Any:
        return ops.constant(np.float32(value))

    for node in model.get_ordered_ops():
        if node.get_type_name() != "Log":
            continue
        root = node.input_value(0)
        for _ in range(5):
            root = ops.sqrt(root).output(0)
        z = ops.divide(ops.subtract(root, number(1.0)), ops.add(root, number(1.0)))
        square, series = ops.multiply(z, z), number(1 / 13)
        for odd in (11, 9, 7, 5, 3, 1):
            series = ops.add(ops.multiply(series, square), number(1 / odd))
        node.output(0).replace(ops.multiply(ops.multiply(z, number(64.0)), series).output(0))


def _with_transpositions(model: Any) -> None:
    """Put a transposition before an OpenVINO model's reshapes of maps of 16 to 64 channels.

    After a convolution the channels of a pixel lie together.  To lay such maps out by channel, as a reshape needs
    them, OpenVINO has a path of its own for these numbers of channels, which is slower than its transposition.
    """
    ops = importlib.import_module("openvino.opset13")
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Reshape":
            continue
        maps, into = node.input_value(0), node.output(0).partial_shape
        known = maps.partial_shape.rank.is_static and into.rank.is_static
        # a zero in a pattern copies a dimension by its place, which a transposition changes
        if (
            not known
            or (len(maps.partial_shape), len(into)) != (4, 5)
            or node.get_attributes()["special_zero"]
        ):
            continue
        channels = maps.partial_shape[1]
        if channels.is_static and 16 <= channels.get_length() <= 64:
            together = ops.transpose(maps, np.array([0, 2, 3, 1]))
            pixels = ops.reshape(together, np.array([0, -1, channels.get_length()]), True)
            node.input(0).replace_source_output(ops.transpose(pixels, np.array([0, 2, 1])).output(0))


ENGINES: Mapping[str, Callable[[Path], Engine]] = {
    "onnxruntime": onnxruntime_engine,
    "openvino": openvino_engine,
}


def open_passes(network: MultiTaskNetwork, backend: str, digest: str) -> Passes:
    """The passes of a network by a backend; its graphs are made at first use and kept in the user's cache.

    Where no cache can be written they are made for this call alone.

    Parameters
    ----------
    network : MultiTaskNetwork
    backend : str
        One of :data:`BACKENDS`.
    digest : str
        Hash of weights and settings: what the graphs are kept under.

    Raises
    ------
    UserError
        An unknown backend, a package that is not installed, a network that cannot be exported, or graphs
        that do not compute what the network does.
    """
    if backend == "torch":
        return TorchPasses(network)
    if backend not in ENGINES:
        raise UserError(f"unknown backend {backend!r}; valid: {', '.join(BACKENDS)}")
    try:
        place = _kept(digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        usable = place.is_dir() or os.access(place.parent, os.W_OK)
        why = f"{place.parent} cannot be written"
    except (UserError, OSError) as error:
        usable, why = False, str(error)
    if not usable:
        _log.warning("the graphs of %s are made for this call alone: %s", backend, why)
        with tempfile.TemporaryDirectory(prefix="mtinet-graphs-") as folder:
            write_graphs(network, Path(folder))
            passes = passes_in(Path(folder), backend)
            _try_out(network, passes)
            return passes
    if not place.is_dir():
        with files.atomic_folder(place) as temporary:
            write_graphs(network, temporary)
    passes, tried = passes_in(place, backend), place / f"tried-{backend}-{ENGINE_REVISION}"
    if not tried.is_file():
        _try_out(network, passes)
        with contextlib.suppress(OSError):  # a cache that is only read is tried out by every call
            files.write_text(tried, "")
    return passes


def passes_in(folder: Path, backend: str, suffix: str = "onnx") -> GraphPasses:
    """The passes from the graphs in a folder."""
    engine = ENGINES[backend]
    return GraphPasses(*(engine(folder / f"{name}.{suffix}") for name in ("segment", "read")))


def _kept(digest: str) -> Path:
    """Where the graphs of a network lie in the user's cache."""
    versions = provenance.versions()
    key = hashlib.sha256(f"{digest} {GRAPH_FORMAT} {versions['mtinet']} {versions['torch']}".encode())
    return cache_folder() / "graphs" / key.hexdigest()[:24]


def _try_out(network: MultiTaskNetwork, passes: Passes) -> None:
    """Refuse graphs that do not compute what the network does, on random images of several sizes."""
    own = TorchPasses(network)
    with torch.inference_mode():
        for number, size in enumerate(SIZES_2D):
            sample = random_sample(network.config, size, seed=number)
            apart = max(
                _apart(one, other)
                for one, other in (
                    *zip(own.segment(sample.batch), passes.segment(sample.batch), strict=True),
                    *zip(own.read(*sample), passes.read(*sample), strict=True),
                )
            )
            if not apart <= _AGREEMENT:
                raise UserError(
                    f"the exported network differs from the network by {apart:.2g} of its largest value; use "
                    "--backend torch, and report it with the run's config.yaml"
                )


def _apart(one: Tensor | None, other: Tensor | None) -> float:
    """The largest difference as a share of the largest value; infinite where one of them lacks."""
    if one is None or other is None:
        return 0.0 if one is other else math.inf
    return float((one - other).abs().max() / one.abs().max().clamp_min(1e-6))
