"""Who computes a network: torch, or onnxruntime and OpenVINO from its graphs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtinet import files, provenance
from mtinet.data.cache import cache_folder
from mtinet.errors import UserError
from mtinet.inference.graphs import SIZES_2D, optional_package, random_sample, write_graphs
from mtinet.inference.passes import Batch, Passes, RegionValues, TorchPasses
from mtinet.model.network import MultiTaskNetwork

BACKENDS = ("torch", "onnxruntime", "openvino")

GRAPH_FORMAT = 1
"""Version of the graphs in the user's cache: others are made anew."""

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

    def __init__(self, segment: Engine, read: Engine) -> None:
        self._segment, self._read = segment, read

    def segment(self, batch: Batch) -> Tensor:
        """See :class:`~mtinet.inference.passes.Passes`."""
        found = self._segment(_arrays(image=batch.image, phase_present=batch.present))
        return torch.from_numpy(found["mask_logits"])

    def read(self, batch: Batch, regions: Tensor) -> RegionValues:
        """See :class:`~mtinet.inference.passes.Passes`."""
        found = self._values(batch, regions)
        return RegionValues(*(found.get(name) for name in RegionValues._fields))  # type: ignore[arg-type]

    def describe(self, batch: Batch) -> Tensor:
        """See :class:`~mtinet.inference.passes.Passes`."""
        return self._values(batch, torch.ones_like(batch.image[:, :1]))["description"]

    def _values(self, batch: Batch, regions: Tensor) -> dict[str, Tensor]:
        found = self._read(
            _arrays(
                image=batch.image,
                phase_present=batch.present,
                phase_times_s=batch.times_s,
                regions=regions.float(),
            )
        )
        return {name: torch.from_numpy(value) for name, value in found.items()}


def _arrays(**tensors: Tensor) -> Arrays:
    return {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in tensors.items()}


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


def openvino_engine(path: Path) -> Engine:
    """A graph (ONNX or OpenVINO's own format) in OpenVINO, on the CPU with torch's number of threads."""
    openvino = optional_package("openvino", "openvino")
    core = openvino.Core()
    # single precision: on some processors the default is bfloat16, which moves masks
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = core.compile_model(core.read_model(path), "CPU", settings)
    taken = {name for value in compiled.inputs for name in value.names}
    outputs = [value.any_name for value in compiled.outputs]

    def compute(arrays: Arrays) -> Arrays:
        found = compiled({name: value for name, value in arrays.items() if name in taken})
        return {name: np.array(found[name]) for name in outputs}

    return compute


ENGINES: Mapping[str, Callable[[Path], Engine]] = {
    "onnxruntime": onnxruntime_engine,
    "openvino": openvino_engine,
}


def open_passes(network: MultiTaskNetwork, backend: str, digest: str) -> Passes:
    """The passes of a network by a backend; its graphs are made at first use and kept in the user's cache.

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
    place = _kept(digest)
    if not place.is_dir():
        with files.atomic_folder(place) as temporary:
            write_graphs(network, temporary)
            _try_out(network, passes_in(temporary, backend))
    return passes_in(place, backend)


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
                    (own.segment(sample.batch), passes.segment(sample.batch)),
                    (own.describe(sample.batch), passes.describe(sample.batch)),
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
