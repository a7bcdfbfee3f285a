"""``mtinet export bundle``: a model as a MONAI bundle."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from mtinet import files, provenance
from mtinet.errors import UserError
from mtinet.inference.parity import Parity, compare
from mtinet.inference.passes import TorchPasses
from mtinet.inference.predictor import Predictor
from mtinet.results import RESEARCH_USE
from mtinet.runs import Run
from mtinet.workflows.export_network import Exported, refuse_occupied, study_to_compare

SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
"""What ``metadata.json`` follows."""


def export_bundle(model: Path | str, out: Path, study: Path | None = None) -> Exported:
    """Write a model as a MONAI bundle, load it as ``monai.bundle`` does, and compare it on a study.

    Parameters
    ----------
    model : Path or str
        Run folder, or the name of a model that comes with the package.
    out : Path
        The bundle's folder: ``configs/metadata.json``, ``configs/inference.json``, ``models/model.pt``,
        ``docs/README.md`` and ``LICENSE``.
    study : Path, optional
        Folder with ``<phase>.nii.gz`` to compare on; by default a virtual patient with a lesion.

    Raises
    ------
    UserError
        ``out`` is not empty, or the bundle does not give the same masks and enhancement.
    """
    from monai.bundle.scripts import load

    refuse_occupied(out)
    run = Run.find(model)
    predictor = Predictor.load(run, "cpu")
    with files.atomic_folder(out) as temporary:
        _write(predictor, run, temporary)
        network: Any = load(
            temporary.name,
            bundle_dir=temporary.parent,
            workflow_type="inference",
            device="cpu",
            source="github",
        )
        seen = predictor.seen(study_to_compare(predictor.config, study))
        found = compare(predictor.passes, TorchPasses(network.network), seen, predictor.config)
        parity: tuple[Parity, ...] = tuple(found)
        if not all(one.holds for one in parity):
            raise UserError(
                f"{Exported(out, parity).text}\nthe bundle is not the same and is not kept; report it"
            )
    return Exported(out, parity)


def _write(predictor: Predictor, run: Run, folder: Path) -> None:
    files.write_json(folder / "configs" / "metadata.json", _metadata(predictor))
    files.write_json(folder / "configs" / "inference.json", _inference(predictor, run))
    place = folder / "models" / "model.pt"
    place.parent.mkdir()
    # a plain dictionary of tensors: it loads with weights_only
    torch.save({f"network.{name}": t for name, t in predictor.network.state_dict().items()}, place)
    card = run.path / "README.md"
    text = (
        card.read_text(encoding="utf-8")
        if card.is_file()
        else f"# {predictor.config.model}\n\n{RESEARCH_USE}\n"
    )
    text += (
        "\nThe workflow `inference` writes the files of one study: give every study an `output_dir` of its own "
        "(results of another one are not written over; MONAI then says `Failed to evaluate ConfigExpression`).\n"
    )
    files.write_text(folder / "docs" / "README.md", text)
    licence = Path(__file__).parents[3] / "LICENSE"
    if licence.is_file():  # beside the sources; a wheel keeps it elsewhere
        shutil.copyfile(licence, folder / "LICENSE")


def _inference(predictor: Predictor, run: Run) -> dict[str, Any]:
    """The configuration of the workflow ``inference``: a study folder to a result's files."""
    network: dict[str, Any] = {
        "_target_": "mtinet.inference.bundle.BundleNetwork",
        "settings": predictor.config.model_dump(mode="json"),
        "classes": list(run.classes),
        "facts": files.plain(predictor.facts),
    }
    if run.has_document("harmonisation"):
        network["harmonisation"] = run.document("harmonisation")
    return {
        "imports": ["$import torch", "$import mtinet"],
        "bundle_root": ".",
        "study": "$@bundle_root + '/study'",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cpu')",
        "ckpt_path": "$@bundle_root + '/models/model.pt'",
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "weights": "$torch.load(@ckpt_path, map_location=@device, weights_only=True)",
        # not when the workflow starts: monai.bundle.load starts it elsewhere and loads the weights itself
        "run": [
            "$@network.load_state_dict(@weights)",
            "$mtinet.save(@network.predictor()(@study), @output_dir)",
        ],
    }


def _metadata(predictor: Predictor) -> dict[str, Any]:
    config, versions = predictor.config, provenance.versions()
    sides = ["*", "*"] if config.spatial_dims == 2 else list(config.sampling.patch_size)
    # a local label ("+cpu") belongs to the machine
    plain = {name: version.partition("+")[0] for name, version in versions.items()}
    tensor = {"type": "image", "modality": "MR", "spatial_shape": sides, "dtype": "float32"}
    return {
        "schema": SCHEMA,
        "version": plain["mtinet"],
        "changelog": {plain["mtinet"]: "exported by mtinet"},
        "monai_version": plain["monai"],
        "pytorch_version": plain["torch"],
        "numpy_version": plain["numpy"],
        "required_packages_version": {name: plain[name] for name in ("mtinet", "nibabel", "scipy")},
        "name": f"mtinet {config.model}",
        "task": "Segmentation of liver lesions on multi-phase contrast-enhanced MRI, with enhancement and class",
        "description": "Slices or windows of all phases to a mask; BundleNetwork.read gives the enhancement and the "
        f"class ({', '.join(predictor.classes)}) of regions, BundleNetwork.predictor whole studies. {RESEARCH_USE}",
        "authors": "The mtinet developers",
        "copyright": "Apache-2.0, the mtinet developers",
        "intended_use": RESEARCH_USE,
        "references": ["arXiv 2511.20793"],
        "network_data_format": {
            "inputs": {
                "image": {
                    **tensor,
                    "format": "magnitude",
                    "num_channels": len(config.phases),
                    "value_range": [],
                    "is_patch_data": config.spatial_dims == 3,
                    "channel_def": {str(index): phase for index, phase in enumerate(config.phases)},
                }
            },
            "outputs": {
                "pred": {
                    **tensor,
                    "format": "segmentation",
                    "num_channels": 1,
                    "value_range": [],
                    "is_patch_data": config.spatial_dims == 3,
                    "channel_def": {"0": "lesion (logit)"},
                }
            },
        },
    }
