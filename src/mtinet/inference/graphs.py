"""A network as two ONNX graphs, for other programs to compute.

``segment.onnx``: image, phase_present -> mask_logits, description.  ``read.onnx``: image, phase_present, phase_times_s,
regions -> enhancement, class_logits, and attention and fusion where the network has them.  Number of images,
number of regions and, in 2-D, the size of the images are open; in 3-D the window is fixed.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from mtinet import files
from mtinet.config import Config
from mtinet.errors import UserError
from mtinet.inference.passes import Batch, Segmented, TorchPasses, region_values
from mtinet.model.network import MultiTaskNetwork

NOT_EXPORTED = {
    "unet_cnn": "it cuts a square around each lesion, and where depends on the content",
    "swinunetr": "its windows are laid by the size of the image",
}
"""Networks without graphs, and why."""

SIZES_2D = ((90, 77), (62, 104))
"""Sizes of the images with which graphs are made, and with which they are tried out."""


class Graph(NamedTuple):
    """A part of a network that is exported by itself: what it computes, and its inputs and outputs by name."""

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class _Segment(nn.Module):
    def __init__(self, network: MultiTaskNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, phase_present: Tensor) -> tuple[Tensor, ...]:
        features = self.network.encode(image, phase_present)
        return self.network.segment(features), self.network.describe(features)


class _Read(nn.Module):
    def __init__(self, network: MultiTaskNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, image: Tensor, phase_present: Tensor, phase_times_s: Tensor, regions: Tensor
    ) -> tuple[Tensor, ...]:
        features = self.network.encode(image, phase_present, phase_times_s)
        values = region_values(self.network, features, regions)
        return tuple(value for value in values if value is not None)


def graphs_of(network: MultiTaskNetwork) -> tuple[Graph, Graph]:
    """The graphs of a network.

    Raises
    ------
    UserError
        Its kind cannot be exported.
    """
    kind = network.config.model
    if kind in NOT_EXPORTED:
        raise UserError(f"{kind} cannot be exported: {NOT_EXPORTED[kind]}; use --backend torch")
    with torch.inference_mode():
        sample = random_sample(network.config, SIZES_2D[0])
        found = TorchPasses(network).read(sample.batch, sample.regions)._asdict()
    outputs = tuple(name for name, value in found.items() if value is not None)
    inputs = ("image", "phase_present", "phase_times_s", "regions")
    return (
        Graph("segment", _Segment(network), inputs[:2], Segmented._fields),
        Graph("read", _Read(network), inputs, outputs),
    )


# ---------------------------------------------------------------------- making
def write_graphs(network: MultiTaskNetwork, folder: Path) -> None:
    """Export a network's graphs into a folder, as ``<name>.onnx``.

    Raises
    ------
    UserError
        A package is not installed, or the network cannot be exported.
    """
    optional_package("onnx", "onnx")
    optional_package("onnxscript", "onnx")
    graphs = graphs_of(_with_biases(network.cpu().eval()))
    sample = random_sample(network.config, SIZES_2D[0])
    values = (*sample.batch, sample.regions)
    for graph in graphs:
        _write_graph(graph, values[: len(graph.inputs)], network.config, folder / f"{graph.name}.onnx")


def _with_biases(network: MultiTaskNetwork) -> MultiTaskNetwork:
    """A copy whose 3-D convolutions all have a bias, zero where there was none.

    onnxscript writes a convolution in 3-D without a bias with one of a shape that no program takes ([channels, 2]).
    """
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, nn.Conv3d) and module.bias is None:
            module.bias = nn.Parameter(module.weight.new_zeros(module.out_channels))
    return network


def _write_graph(graph: Graph, values: tuple[Tensor, ...], config: Config, path: Path) -> None:
    open_sizes = _open_sizes(config)
    with torch.no_grad(), _quiet():
        program = torch.export.export(
            graph.module,
            values,
            dynamic_shapes=tuple(open_sizes[name] for name in graph.inputs),
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        # not optimised: the optimiser takes sizes that are open for those of the sample
        exported = torch.onnx.export(
            program, input_names=graph.inputs, output_names=graph.outputs, dynamo=True, optimize=False
        )
        assert exported is not None
        with files.atomic_path(path) as temporary:
            exported.save(temporary, external_data=False)


def _open_sizes(config: Config) -> dict[str, dict[int, Any]]:
    """Axes of every input that are open."""
    free = torch.export.Dim.DYNAMIC
    space = dict.fromkeys((2, 3), free) if config.spatial_dims == 2 else {}
    return {
        "image": {0: free, **space},
        "phase_present": {0: free},
        "phase_times_s": {0: free},
        "regions": {0: free, 1: free, **space},
    }


class Sample(NamedTuple):
    """Inputs of a network."""

    batch: Batch
    regions: Tensor


def random_sample(config: Config, size: tuple[int, int], seed: int = 0) -> Sample:
    """Random images of a size (in 3-D: of the window's) with a phase that lacks, and two regions in each."""
    random = torch.Generator().manual_seed(seed)
    count, phases = 3, len(config.phases)
    space = size if config.spatial_dims == 2 else config.sampling.patch_size
    present = torch.ones(count, phases, dtype=torch.bool)
    present[0, 1] = False
    times = 60.0 * torch.arange(phases).expand(count, -1).float()
    regions = torch.zeros(count, 2, *space)
    box: tuple[Any, ...] = tuple(slice(side // 3, side // 2 + 1) for side in space)
    regions[(..., *box)] = 1.0
    regions[:, 1] = (torch.rand(count, *space, generator=random) > 0.9).float()
    image = torch.rand(count, phases, *space, generator=random)
    return Sample(Batch(image, present, times.clone()), regions)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters say about their own steps."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        logger.setLevel(logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            logger.setLevel(level)


def optional_package(name: str, extra: str) -> Any:
    """A package that an extra installs.

    Raises
    ------
    UserError
        It is not installed.
    """
    # OpenVINO tells its maker about every import of it, through this package; without it, it tells nothing
    sys.modules.setdefault("openvino_telemetry", cast("ModuleType", None))
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(
            f"{name} is not installed: pip install 'mtinet[{extra}]', or leave --backend and the export out"
        ) from None
