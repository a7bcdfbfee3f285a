"""A model as a MONAI bundle, as monai.bundle loads and runs it."""

from __future__ import annotations

import json
from importlib.resources import files

import numpy as np
import pytest
import torch

import mtinet
from mtinet.config import resolve_simulation
from mtinet.errors import UserError
from mtinet.volume import read_nifti
from mtinet.workflows.export_bundle import export_bundle
from mtinet.workflows.simulate import simulate

REQUIRED = {
    "schema",
    "version",
    "changelog",
    "monai_version",
    "pytorch_version",
    "numpy_version",
    "required_packages_version",
    "task",
    "description",
    "authors",
    "copyright",
    "network_data_format",
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("bundles") / "liver"
    exported = export_bundle("reference", place)
    assert all(one.holds and one.lesions for one in exported.parity)
    return place


@pytest.mark.slow
def test_monai_loads_the_network(bundle):
    from monai.bundle import load

    network = load("liver", bundle_dir=bundle.parent, workflow_type="inference", device="cpu").eval()
    ours = mtinet.load("reference", "cpu").network
    image = torch.rand(2, 4, 96, 80, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(network(image), ours.segment(ours.encode(image)))
        regions = (image[:, :1] > 0.7).float()
        read = network.read(image, regions)
        assert torch.equal(read.enhancement, ours.read(ours.encode(image), regions).enhancement)


@pytest.mark.slow
def test_monai_runs_it_on_a_study(bundle, tmp_path):
    from monai.bundle import ConfigWorkflow

    options = ["subjects=1", "seed=4242", "no_lesion_fraction=0", "missing_phase_rate=0", "diameter_mm=40,60"]
    study = simulate(
        tmp_path / "cohort", resolve_simulation("multicentre", None, options), workers=1
    ).studies[0]
    folder = next(iter(study.images.values())).parent
    workflow = ConfigWorkflow(
        config_file=str(bundle / "configs" / "inference.json"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        workflow_type="inference",
        bundle_root=str(bundle),
        study=str(folder),
        output_dir=str(tmp_path / "out"),
    )
    workflow.initialize()
    workflow.run()
    found = read_nifti(tmp_path / "out" / "mask.nii.gz", labels=True).array
    assert found.any()
    assert np.array_equal(found, mtinet.load("reference", "cpu")(folder).mask.array)


@pytest.mark.slow
def test_its_metadata_has_what_the_schema_asks(bundle):
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    assert set(metadata) >= REQUIRED
    image = metadata["network_data_format"]["inputs"]["image"]
    assert image["num_channels"] == len(image["channel_def"]) == 4
    assert "Research use only" in metadata["intended_use"]


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "kept").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="is not empty"):
        export_bundle("reference", tmp_path)


@pytest.mark.slow
def test_it_names_nobody_who_trained_the_model(bundle):
    """What is given away: weights and settings, but not the ids that a run folder holds."""
    split = json.loads((files("mtinet.models") / "reference" / "split.json").read_text(encoding="utf-8"))
    ids = {str(one).encode() for part in ("train", "test") for one in split[part]}
    assert len(ids) > 100
    for path in (path for path in bundle.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert not [one for one in ids if one in content], path.name
