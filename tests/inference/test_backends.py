"""The same network by torch, onnxruntime and OpenVINO, on virtual patients."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from mtinet.config import resolve, resolve_simulation
from mtinet.errors import UserError
from mtinet.inference import backends, graphs, parity
from mtinet.inference.ensemble import Ensemble
from mtinet.inference.panel import Opinions
from mtinet.inference.passes import TorchPasses
from mtinet.inference.predictor import Predictor
from mtinet.model.build import build_network
from mtinet.workflows.prepare import prepare
from mtinet.workflows.simulate import simulate

CONFIG = resolve(
    "tiny",
    None,
    [
        "encoder.channels=[4,8]",
        "decoder.channels=[8,4]",
        "encoder.stem=2",
        "head.readout=residual",
        "head.dropout=0.1",
        "decoder.dropout=0.1",
    ],
)


def _installed(name: str, extra: str):
    missing = [n for n in (name, "onnx", "onnxscript") if importlib.util.find_spec(n) is None]
    return pytest.mark.skipif(
        bool(missing), reason=f"{', '.join(missing)} not installed: pip install 'mtinet[{extra}]'"
    )


ENGINES = [
    pytest.param("onnxruntime", marks=_installed("onnxruntime", "onnx")),
    pytest.param("openvino", marks=_installed("openvino", "openvino")),
]


@pytest.fixture(scope="module")
def network():
    torch.set_num_threads(1)
    network = build_network(CONFIG, 2).eval()
    network.set_enhancement_statistics(0.8, 0.3)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        # a head that says something, statistics that are no identity, and masks with both outcomes
        network.head.enhancement.weight.normal_(0.0, 0.3, generator=random)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0.0, 0.1, generator=random)
        network.decoder.mask.bias.zero_()
    return network


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Virtual patients of two sites, so of two sizes, each with a lesion."""
    place = tmp_path_factory.mktemp("cohort")
    options = ["subjects=3", "seed=4243", "no_lesion_fraction=0", "missing_phase_rate=0", "diameter_mm=30,60"]
    cohort = simulate(place / "cohort", resolve_simulation("multicentre", None, options), workers=1)
    return prepare(cohort, resolve("small"), place / "cache", workers=1).studies


@pytest.fixture(scope="module")
def reference():
    torch.set_num_threads(1)
    return Predictor.load("reference", "cpu")


@pytest.fixture(scope="module")
def folder(reference, tmp_path_factory):
    """The graphs of the reference model."""
    pytest.importorskip("onnxscript", reason="pip install 'mtinet[onnx]'")
    place = tmp_path_factory.mktemp("graphs")
    graphs.write_graphs(reference.network, place)
    return place


@pytest.mark.slow
@pytest.mark.parametrize("backend", ENGINES)
def test_masks_and_enhancement_are_the_same_on_virtual_patients(backend, reference, folder, studies):
    passes = backends.passes_in(folder, backend)
    assert len({study.image.shape[1:] for study in studies}) > 1
    for study in studies:
        found = parity.compare(reference.passes, passes, study, reference.config)
        assert {one.lacking != "" for one in found} == {True, False}
        for one in found:
            assert one.lesions > 0
            assert one.holds, one
            assert one.probability < 1e-3, one
            assert one.classes < 1e-3, one


@pytest.mark.slow
@pytest.mark.parametrize("backend", ENGINES)
def test_a_predictor_with_a_backend_gives_the_same_result(backend, reference, folder, studies, monkeypatch):
    monkeypatch.setattr(backends, "_kept", lambda digest: folder)
    other = Predictor.load("reference", backend=backend)
    assert other.facts["backend"] == backend
    assert other.calibration is not None
    one, two = (p.predict_prepared(studies[0]).result for p in (reference, other))
    assert one.lesions
    assert np.array_equal(one.mask.array, two.mask.array)
    for a, b in zip(one.lesions, two.lesions, strict=True):
        assert a.label == b.label
        assert b.enhancement == pytest.approx(a.enhancement, rel=1e-3)
        assert b.certainty.existence == pytest.approx(a.certainty.existence, abs=1e-3)
    # a mirrored study is asked about by the backend too
    both = Ensemble([other], Opinions(flips=True)).predict_prepared(studies[0]).result
    alone = Ensemble([reference], Opinions(flips=True)).predict_prepared(studies[0]).result
    assert np.array_equal(both.mask.array, alone.mask.array)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ENGINES)
def test_every_pass_agrees_on_any_number_of_images_and_regions(backend, reference, folder):
    passes, own = backends.passes_in(folder, backend), reference.passes
    for size in ((34, 51), (96, 64)):
        sample = graphs.random_sample(reference.config, size, seed=3)
        sample.batch.image[0, 1] = float("nan")  # of the phase that lacks: nobody looks at it
        for part in (slice(0, 1), slice(0, 3)):
            batch = type(sample.batch)(*(values[part] for values in sample.batch))
            for regions in (sample.regions[part], sample.regions[part, :1]):
                with torch.inference_mode():
                    one, other = own.read(batch, regions), passes.read(batch, regions)
                    pairs = [*zip(one, other), *zip(own.segment(batch), passes.segment(batch))]
                for a, b in pairs:
                    assert (a - b).abs().max() <= 1e-4 * a.abs().max()


@pytest.mark.parametrize(
    ("channels", "copied", "transposed"), [(16, False, 2), (64, False, 2), (16, True, 0), (8, False, 0)]
)
def test_openvino_lays_maps_out_by_transposition_where_that_changes_nothing(channels, copied, transposed):
    openvino = pytest.importorskip("openvino", reason="pip install 'mtinet[openvino]'")
    ops = importlib.import_module("openvino.opset13")
    rng = np.random.default_rng(0)

    def made():
        image = ops.parameter([-1, 3, 8, 6], np.float32, name="image")
        kernel = np.random.default_rng(1).standard_normal((channels, 3, 3, 3)).astype(np.float32)
        maps = ops.convolution(image, kernel, [1, 1], [1, 1], [1, 1], [1, 1])
        pattern = [1, 2, channels, 0, 6] if copied else [-1, 2, channels, 8, 6]
        return openvino.Model([ops.reshape(maps, np.array(pattern), copied)], [image], "model")

    changed = made()
    backends._with_transpositions(changed)
    assert sum(node.get_type_name() == "Transpose" for node in changed.get_ops()) == transposed
    if not copied:  # such a pattern is not valid for these sizes: it is only looked at
        given = rng.standard_normal((4, 3, 8, 6)).astype(np.float32)
        core = backends.openvino_core(openvino)
        one, other = (core.compile_model(m, "CPU")(given)[0] for m in (made(), changed))
        assert np.array_equal(one, other)


def test_openvino_computes_for_several_threads_what_it_does_for_one(tmp_path):
    openvino = pytest.importorskip("openvino", reason="pip install 'mtinet[openvino]'")
    ops = importlib.import_module("openvino.opset13")
    image = ops.parameter([-1, 3, -1, -1], np.float32, name="image")
    image.output(0).get_tensor().set_names({"image"})
    kernel = np.random.default_rng(1).standard_normal((8, 3, 3, 3)).astype(np.float32)
    maps = ops.convolution(image, kernel, [1, 1], [1, 1], [1, 1], [1, 1])
    maps.output(0).get_tensor().set_names({"maps"})
    openvino.save_model(
        openvino.Model([maps], [image], "model"), tmp_path / "model.xml", compress_to_fp16=False
    )
    engine = backends.openvino_engine(tmp_path / "model.xml")
    rng = np.random.default_rng(0)
    # more sizes than are kept, so that graphs are compiled all the time, and several images of each
    sizes = [(64 + 8 * n, 96) for n in range(6)]
    given = [rng.standard_normal((2, 3, *size)).astype(np.float32) for size in sizes for _ in range(3)]
    alone = [engine({"image": one})["maps"] for one in given]
    for _ in range(3):
        with ThreadPoolExecutor(4) as threads:
            together = list(threads.map(lambda one: engine({"image": one})["maps"], given))
        for one, other in zip(alone, together, strict=True):
            assert np.array_equal(one, other)


SIGNALLED = """
import importlib, pathlib, signal, sys
import numpy as np
from mtinet.inference import backends
from mtinet.inference.graphs import optional_package
openvino = optional_package("openvino", "openvino")
ops = importlib.import_module("openvino.opset13")
image = ops.parameter([-1, 3, 8, 6], np.float32, name="image")
image.output(0).set_names({"image"})
model = openvino.Model([ops.relu(image)], [image], "model")
path = pathlib.Path(sys.argv[1]) / "model.xml"
openvino.save_model(model, path)
engines = [backends.openvino_engine(path) for _ in range(2)]
for engine in engines:
    engine({"image": np.zeros((1, 3, 8, 6), np.float32)})
del engine
while engines:
    engines.pop(0)  # the first that was made goes first
signal.signal(signal.SIGINT, lambda *_: print("heard"))
signal.raise_signal(signal.SIGINT)
"""


@pytest.mark.slow
@_installed("openvino", "openvino")
@pytest.mark.parametrize("flags", [[], ["-X", "faulthandler"]])
def test_a_signal_is_heard_after_openvino_was_given_up(flags, tmp_path):
    told = subprocess.run(
        [sys.executable, *flags, "-c", SIGNALLED, tmp_path], capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stdout) == (0, "heard\n"), told.stderr


def test_a_graph_is_tried_out_once_by_every_backend(network, monkeypatch, tmp_path):
    (tmp_path / "kept").mkdir()
    monkeypatch.setattr(backends, "_kept", lambda digest: tmp_path / "kept")
    monkeypatch.setattr(backends, "passes_in", lambda place, backend: backend)
    tried = []
    monkeypatch.setattr(backends, "_try_out", lambda network, passes: tried.append(passes))
    for backend in ("onnxruntime", "openvino", "openvino"):
        backends.open_passes(network, backend, "digest")
    assert tried == ["onnxruntime", "openvino"]

    def fails(network, passes):
        raise UserError("differs")

    monkeypatch.setattr(backends, "ENGINE_REVISION", backends.ENGINE_REVISION + 1)
    monkeypatch.setattr(backends, "_try_out", fails)
    for _ in range(2):  # a graph that failed is not taken the next time
        with pytest.raises(UserError, match="differs"):
            backends.open_passes(network, "openvino", "digest")


@pytest.mark.parametrize("home", ["none", "read-only"])
def test_without_a_cache_graphs_are_made_for_this_call_alone(home, network, monkeypatch, tmp_path, caplog):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if home == "none":
        monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    else:
        (tmp_path / "file").write_text("")  # a folder in it cannot be made, whoever asks
        monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path / "file")
    written, tried = [], []
    monkeypatch.setattr(backends, "write_graphs", lambda network, folder: written.append(folder))
    monkeypatch.setattr(backends, "passes_in", lambda place, backend: (backend, place.is_dir()))
    monkeypatch.setattr(backends, "_try_out", lambda network, passes: tried.append(passes))
    assert backends.open_passes(network, "onnxruntime", "digest") == ("onnxruntime", True)
    assert tried == [("onnxruntime", True)]
    assert not written[0].exists()
    assert "made for this call alone" in caplog.text


THIN = ["spatial_dims=3", "sampling.patch_size=[2,16,16]", "encoder.channels=[4,8]", "decoder.channels=[8,4]"]
"""A network in 3-D, with a window as small as can be: making its graphs takes long."""


def test_convolutions_in_three_dimensions_are_exported_with_a_bias_that_changes_nothing():
    network = build_network(resolve("tiny", None, THIN), 2).eval()
    sample = graphs.random_sample(network.config, graphs.SIZES_2D[0])
    exported = graphs._with_biases(network)
    assert all(m.bias is not None for m in exported.modules() if isinstance(m, torch.nn.Conv3d))
    assert any(m.bias is None for m in network.modules() if isinstance(m, torch.nn.Conv3d))
    for one, other in zip(network(sample.batch.image), exported(sample.batch.image), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ENGINES)
def test_a_network_in_three_dimensions_computes_the_same(backend, tmp_path):
    network = build_network(resolve("tiny", None, THIN), 2).eval()
    network.set_enhancement_statistics(0.8, 0.3)
    graphs.write_graphs(network, tmp_path)
    backends._try_out(network, backends.passes_in(tmp_path, backend))


def test_a_difference_is_seen(network, studies):
    class Off(TorchPasses):
        def segment(self, batch):
            found = super().segment(batch)
            noise = 0.3 * torch.randn(batch.image[:, :1].shape)
            return found._replace(mask_logits=found.mask_logits + noise)

        def read(self, batch, regions):
            values = super().read(batch, regions)
            return values._replace(enhancement=1.01 * values.enhancement)

    found = parity.compare(TorchPasses(network), Off(network), studies[0], CONFIG)
    assert not any(one.holds for one in found)
    assert all(one.enhancement == pytest.approx(0.01, rel=0.01) for one in found)


def test_dropout_needs_torch(network):
    class Elsewhere:
        pass

    predictor = Predictor(network, CONFIG, ("a", "b"), {"digest": "x"}, passes=Elsewhere())
    assert Ensemble([predictor], Opinions(flips=True)).passes is predictor.passes
    with pytest.raises(UserError, match="--backend torch"):
        Ensemble([predictor], Opinions(dropout=2))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_missing_package_is_named_with_its_repair(backend, monkeypatch, tmp_path, network):
    monkeypatch.setitem(sys.modules, backend, None)
    with pytest.raises(UserError, match=rf"{backend} is not installed: pip install 'mtinet\[o"):
        backends.passes_in(tmp_path, backend)


IMPORTED = """
import sys, time
calls = []
sys.addaudithook(lambda event, _: event in ("socket.getaddrinfo", "socket.connect") and calls.append(event))
from mtinet.inference.graphs import optional_package
openvino = optional_package("openvino", "openvino")
time.sleep(3)  # what is sent, another thread sends
print(calls, len(openvino.Core().available_devices) > 0)
"""


@pytest.mark.slow
@_installed("openvino", "openvino")
def test_openvino_tells_nobody_that_it_is_used(tmp_path):
    environment = {**os.environ, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    told = subprocess.run(
        [sys.executable, "-c", IMPORTED], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout == "[] True\n"
    assert not (tmp_path / "intel").exists()


def test_an_unknown_backend_names_the_known_ones(network):
    with pytest.raises(UserError, match="valid: torch, onnxruntime, openvino"):
        backends.open_passes(network, "tensorrt", "digest")


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_named_with_its_repair(device):
    with pytest.raises(UserError, match=f"device '{device}' cannot be used here .*; give auto or cpu"):
        Predictor.load("reference", device)


def test_a_network_that_follows_its_content_is_refused():
    network = build_network(resolve("tiny", None, ["model=unet_cnn"]), 2)
    with pytest.raises(UserError, match="unet_cnn cannot be exported"):
        graphs.graphs_of(network)


def test_the_views_are_smaller_and_lack_a_phase(studies):
    whole = max(studies, key=lambda study: sum(study.present))
    seen = list(parity.views(whole))
    assert [shown.image.shape[2] for shown, _ in seen[:3]] == [
        whole.image.shape[2] - cut for cut in (0, 3, 8)
    ]
    shown, lacking = seen[-1]
    assert not shown.present[whole.phases.index(lacking)]
    assert not np.any(shown.image[whole.phases.index(lacking)])
