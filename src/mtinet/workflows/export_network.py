"""``mtinet export onnx | openvino``: a model's network for other programs, tried out against torch on a study."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mtinet import files, provenance
from mtinet.cohort import Study
from mtinet.config import Config, resolve_simulation
from mtinet.data.preparation import prepare_for_prediction, prepare_with_mask
from mtinet.data.prepared import PreparedStudy
from mtinet.errors import UserError
from mtinet.inference.backends import openvino_core, passes_in
from mtinet.inference.graphs import optional_package, write_graphs
from mtinet.inference.parity import LEAST_DICE, MOST_APART, Parity, compare
from mtinet.inference.passes import TorchPasses
from mtinet.inference.predictor import Predictor
from mtinet.results import RESEARCH_USE
from mtinet.runs import Run
from mtinet.workflows.simulate import simulate

ExportKind = Literal["onnx", "openvino"]

EXPORT_FORMAT = 1
"""Version of ``network.json``."""

_MEANING = {
    "image": "normalised signal [image, phase, y, x]: the study's signal over one gain for all its phases",
    "phase_present": "whether the study has the phase [image, phase]",
    "phase_times_s": "seconds from the start of injection [image, phase]; NaN = unknown",
    "regions": "weights 0 to 1 of each lesion's voxels [image, region, y, x]",
    "mask_logits": "logits of the lesion probability [image, 1, y, x]",
    "description": "means of the network's maps [image, phase, feature]",
    "enhancement": "normalised signal of each region [image, region, phase]",
    "class_logits": "logits of the classes [image, region, class]",
    "attention": "share of each phase in the class read-out [image, region, phase]",
    "fusion": "weight of the high-frequency map in the deepest fusion [image, phase]",
}


@dataclass(frozen=True)
class Exported:
    """What :func:`export_network` wrote, and how far it is from torch."""

    out: Path
    parity: tuple[Parity, ...]

    @property
    def text(self) -> str:
        """The differences, a line a view of the study."""
        lines = [
            f"{'x'.join(map(str, one.shape))}{f' without {one.lacking}' if one.lacking else ''}: "
            f"probability {one.probability:.1e}, masks' Dice {one.dice:.6f}, {one.lesions} lesions: "
            f"enhancement {one.enhancement:.1e} (relative), class probability {one.classes:.1e}"
            for one in self.parity
        ]
        return "\n".join(
            ["largest differences to torch, by size of the study:", *lines, f"written: {self.out}"]
        )


def export_network(model: Path | str, out: Path, kind: ExportKind, study: Path | None = None) -> Exported:
    """Export the network of a model and compare it with torch on a study.

    Parameters
    ----------
    model : Path or str
        Run folder, or the name of a model that comes with the package.
    out : Path
        Folder to write: ``segment`` and ``read`` (``.onnx``, or ``.xml`` with ``.bin``) and ``network.json``.
    kind : str
        ``onnx`` or ``openvino``.
    study : Path, optional
        Folder with ``<phase>.nii.gz`` to compare on; by default a virtual patient with a lesion.

    Raises
    ------
    UserError
        A package is missing, the network cannot be exported, ``out`` is not empty, or the exported network
        does not give the same masks and enhancement.
    """
    refuse_occupied(out)
    predictor = Predictor.load(model, "cpu")
    seen = predictor.seen(study_to_compare(predictor.config, study))
    backend = "onnxruntime" if kind == "onnx" else "openvino"
    with files.atomic_folder(out) as temporary:
        if kind == "onnx":
            write_graphs(predictor.network, temporary)
        else:
            _write_openvino(predictor, temporary)
        passes = passes_in(temporary, backend, "onnx" if kind == "onnx" else "xml")
        parity = tuple(compare(TorchPasses(predictor.network), passes, seen, predictor.config))
        if not all(one.holds for one in parity):
            raise UserError(
                f"{Exported(out, parity).text}\nthe exported network is not the same (Dice below {LEAST_DICE} or "
                f"enhancement apart by more than {MOST_APART}) and is not kept; use --backend torch, and report it"
            )
        files.write_json(temporary / "network.json", _described(predictor, Run.find(model), kind, parity))
    return Exported(out, parity)


def refuse_occupied(out: Path) -> None:
    """Refuse a folder that holds something, or a file."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty; give another folder")


def _write_openvino(predictor: Predictor, folder: Path) -> None:
    openvino = optional_package("openvino", "openvino")
    with tempfile.TemporaryDirectory(prefix="mtinet-export-") as place:
        write_graphs(predictor.network, Path(place))
        for path in sorted(Path(place).glob("*.onnx")):
            # not in halves: masks would move
            model = openvino_core(openvino).read_model(path)
            openvino.save_model(model, folder / f"{path.stem}.xml", compress_to_fp16=False)


def _described(
    predictor: Predictor, run: Run, kind: ExportKind, parity: tuple[Parity, ...]
) -> dict[str, Any]:
    config = predictor.config
    axes = "z, y, x" if config.spatial_dims == 3 else "y, x"
    return {
        "format": EXPORT_FORMAT,
        "kind": kind,
        "model": predictor.facts,
        "classes": list(run.classes),
        "class_codes": run.class_codes,
        "phases": list(config.phases),
        "spatial_dims": config.spatial_dims,
        "window": list(config.sampling.patch_size) if config.spatial_dims == 3 else None,
        "spacing_mm": list(config.preparation.spacing_mm),
        "gain_percentile": config.preparation.gain_percentile,
        "threshold": config.inference.threshold,
        "min_peak": config.inference.min_peak,
        "min_diameter_mm": config.inference.min_diameter_mm,
        "values": {name: text.replace("y, x", axes) for name, text in _MEANING.items()},
        "parity": [one.to_dict() for one in parity],
        "versions": {**provenance.versions(), **_exporters()},
        "use": RESEARCH_USE,
    }


def _exporters() -> dict[str, str]:
    from importlib import metadata

    found = {}
    for name in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


def study_to_compare(config: Config, given: Path | None) -> PreparedStudy:
    """The study given, or a virtual patient with a lesion, prepared for the model."""
    if given is not None:
        return prepare_for_prediction(Study.from_folder(given), config.phases, config.preparation)
    late = {"transitional", "hepatobiliary"} & set(config.phases)
    options = {
        "subjects": 1,
        "no_lesion_fraction": 0.0,
        "missing_phase_rate": 0.0,
        "phases": config.phases,
        "agent": "gadoxetate" if late else "gadobutrol",
    }
    with tempfile.TemporaryDirectory(prefix="mtinet-export-") as place:
        cohort = simulate(
            Path(place) / "cohort", resolve_simulation("demo", None, (), options=options), workers=1
        )
        return prepare_with_mask(cohort.studies[0], config.phases, config.preparation)
