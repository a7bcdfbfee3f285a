"""A network for other programs: what they get is what torch computes, and is described."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mtinet.config import resolve
from mtinet.errors import UserError
from mtinet.inference.predictor import Predictor
from mtinet.model.build import build_network
from mtinet.workflows.export_network import _described, export_network


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_another_program_computes_the_masks_of_the_run(toy_run, tmp_path, kind):
    pytest.importorskip({"onnx": "onnxruntime"}.get(kind, kind))
    exported = export_network(toy_run.path, tmp_path / "out", kind)
    assert exported.parity
    assert all(one.holds for one in exported.parity)
    described = json.loads((exported.out / "network.json").read_text())
    assert described["classes"] == list(toy_run.classes)
    assert described["phases"] == list(toy_run.config.phases)
    assert described["values"]["image"].startswith("normalised signal [image, phase, y, x]")
    assert len(described["parity"]) == len(exported.parity)
    image = np.random.default_rng(0).random((2, len(described["phases"]), 41, 50), dtype=np.float32)
    present = np.ones(image.shape[:2], dtype=bool)
    network = Predictor.load(toy_run, "cpu").network
    with torch.inference_mode():
        own = network(torch.from_numpy(image), torch.from_numpy(present)).mask_logits.numpy()
    np.testing.assert_allclose(_computed(exported.out, kind, image, present), own, atol=1e-3)


def _computed(folder, kind, image, present):
    """The logits as docs/export.md lets a program ask for them, without mtinet."""
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / "segment.onnx")
        wanted = {one.name for one in session.get_inputs()}
        given = {"image": image, "phase_present": present}
        return session.run(["mask_logits"], {k: v for k, v in given.items() if k in wanted})[0]
    import openvino

    model = openvino.Core().compile_model(folder / "segment.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    wanted = {name for port in model.inputs for name in port.get_names()}
    given = {"image": image, "phase_present": present}
    return model({k: v for k, v in given.items() if k in wanted})["mask_logits"]


def test_what_is_there_is_not_written_over(toy_run, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty; give another folder"):
        export_network(toy_run.path, tmp_path, "onnx")
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_axes_are_described_as_the_graphs_have_them(toy_run):
    config = resolve("tiny", None, ["spatial_dims=3", "sampling.patch_size=[2,16,16]"])
    predictor = Predictor(build_network(config, len(toy_run.classes)).eval(), config, toy_run.classes, {})
    described = _described(predictor, toy_run, "onnx", ())
    assert described["values"]["image"].startswith("normalised signal [image, phase, z, y, x]")
    assert "[image, region, z, y, x]" in described["values"]["regions"]
    assert described["window"] == [2, 16, 16]
