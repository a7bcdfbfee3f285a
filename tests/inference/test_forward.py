from __future__ import annotations

import numpy as np
import pytest
import torch

from mtinet.config import resolve
from mtinet.data.prepared import PreparedStudy
from mtinet.inference.describe import describe_lesions
from mtinet.inference.forward import _batch, _covering, _windows, read_lesions, survey
from mtinet.inference.lesions import find_lesions, mask_on_source, numbered_as_written
from mtinet.inference.passes import TorchPasses
from mtinet.model.build import build_network
from mtinet.volume import Volume
from mtinet.workflows.prepare import prepare


@pytest.fixture
def study(toy_cohort, tmp_path) -> PreparedStudy:
    torch.set_num_threads(1)
    return prepare(toy_cohort.subset(["s0"]), resolve("tiny"), tmp_path / "cache", workers=1).studies[0]


@pytest.mark.parametrize("shape", [(8, 32, 40), (5, 17, 64), (16, 24, 24)])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_windows_cover_every_voxel_and_stay_inside(shape, overlap):
    seen = np.zeros(shape, dtype=int)
    for box in _windows(shape, (8, 24, 24), overlap):
        assert all(0 <= s.start < s.stop <= n for s, n in zip(box, shape, strict=True))
        seen[box] += 1
    assert seen.min() >= 1


@pytest.mark.parametrize(
    "bounds", [((2, 5), (3, 9), (3, 9)), ((0, 8), (0, 40), (5, 50)), ((6, 8), (38, 40), (0, 3))]
)
def test_each_voxel_of_a_lesion_is_read_once(bounds):
    shape = (8, 40, 50)
    lesion = tuple(slice(*ends) for ends in bounds)
    seen = np.zeros(shape, dtype=int)
    for box in _covering(lesion, shape, (8, 16, 16)):
        seen[box] += 1
    assert (seen[lesion] == 1).all()


def test_one_look_gives_what_a_pass_for_the_mask_and_one_for_the_description_give(study):
    # an exact trick: 1e-5 of the largest value
    network = build_network(resolve("tiny"), 2).eval()
    passes = TorchPasses(network)
    batch = _batch(torch.as_tensor(np.array(study.image)).transpose(0, 1)[:3], study)
    with torch.inference_mode():
        found = passes.segment(batch)
        mask = network.segment(network.encode(*batch))
        description = network.describe(network.encode(*batch))
    assert (found.mask_logits - mask).abs().max() <= 1e-5 * mask.abs().max()
    assert (found.description - description).abs().max() <= 1e-5 * description.abs().max()


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_the_batch_of_slices_does_not_change_the_result(study, batch):
    config = resolve("tiny", assignments=[f"inference.slice_batch={batch}"])
    network = build_network(config, 2)

    class Together(TorchPasses):
        images = 100

    one = survey(TorchPasses(network), study, resolve("tiny"))
    other = survey(Together(network), study, config)
    assert np.allclose(other.probability, one.probability, atol=1e-6)
    assert np.allclose(other.description, one.description, atol=1e-6)
    readings = read_lesions(Together(network), study, np.asarray(study.mask), config)
    expected = read_lesions(TorchPasses(network), study, np.asarray(study.mask), resolve("tiny"))
    assert np.allclose(readings[1].enhancement, expected[1].enhancement, atol=1e-5)
    assert readings[1].probabilities.sum() == pytest.approx(1)


def test_a_lesion_is_the_area_weighted_mean_of_its_slices(study):
    config = resolve("tiny")
    network = build_network(config, 2)
    mask = np.asarray(study.mask).astype(int)
    whole = read_lesions(TorchPasses(network), study, mask, config)[1]
    areas, curves, logs = [], [], []
    for z in np.flatnonzero(mask.any((1, 2))):
        only = np.where(np.arange(len(mask))[:, None, None] == z, mask, 0)
        reading = read_lesions(TorchPasses(network), study, only, config)[1]
        areas.append(only.sum())
        curves.append(reading.enhancement)
        logs.append(np.log(reading.probabilities))
    assert np.allclose(np.average(curves, axis=0, weights=areas), whole.enhancement, atol=1e-5)
    mean = np.exp(np.average(logs, axis=0, weights=areas))
    assert np.allclose(mean / mean.sum(), whole.probabilities, atol=1e-5)


def test_small_components_are_dropped_and_the_rest_numbered_by_size():
    probability = np.zeros((6, 30, 30), dtype=np.float32)
    probability[1:5, 2:12, 2:12] = 0.9
    probability[1:4, 20:26, 20:26] = 0.95
    probability[0, 29, 0] = 1.0
    settings = resolve("small").inference
    labels = find_lesions(probability, (2.0, 2.0, 2.0), settings)
    assert labels.max() == 2
    assert (labels[1:5, 2:12, 2:12] == 1).all()
    assert labels[0, 29, 0] == 0


def test_a_component_that_is_sure_nowhere_is_dropped_whole_and_one_that_is_somewhere_stays_whole():
    probability = np.zeros((6, 30, 30), dtype=np.float32)
    probability[1:5, 2:16, 2:16] = 0.85
    probability[1:4, 20:26, 20:26] = 0.6
    probability[2, 22, 22] = 0.92
    found = find_lesions(probability, (2.0, 2.0, 2.0), resolve("small").inference)
    assert np.array_equal(found == 1, probability * (np.indices(probability.shape)[2] >= 20) > 0)
    assert found.max() == 1
    every = resolve("small", assignments=["inference.min_peak=0"]).inference
    assert find_lesions(probability, (2.0, 2.0, 2.0), every).max() == 2


def test_results_list_only_what_the_mask_holds(study):
    """On a coarse source grid a small lesion may lose every voxel."""
    labels = np.zeros(study.shape, dtype=np.int32)
    labels[3:6, 10:16, 10:16] = 1
    labels[2, 25, 25] = 2
    probability = np.where(labels == 1, 0.9, 0.0).astype(np.float32)
    mask = mask_on_source(study, probability, labels, 0.5)
    network = build_network(resolve("tiny"), 2)
    readings = read_lesions(TorchPasses(network), study, labels, resolve("tiny"))
    lesions = describe_lesions(study, probability, labels, readings, mask, ("a", "b"))
    assert [lesion.number for lesion in lesions] == [1]
    assert set(np.unique(mask.array)) == {0, 1}


def test_lesions_are_numbered_by_their_size_in_the_mask_that_is_written(study):
    labels = np.zeros(study.shape, dtype=np.int32)
    labels[3:6, 10:16, 10:16] = 1
    labels[2, 25, 25] = 2
    labels[7, 3:6, 3:6] = 3
    written = np.zeros(study.source_shape, dtype=np.uint8)
    written[3:5, 3:5, 3] = 3
    written[10, 10, 4] = 1
    numbers, mask = numbered_as_written(labels, Volume(written, study.source_affine))
    assert np.array_equal(numbers, np.choose(labels, [0, 2, 0, 1]))
    assert np.array_equal(mask.array, np.choose(written, [0, 2, 0, 1]))
    assert mask.array.dtype == np.uint8


def test_the_fusion_weight_lies_between_its_channels_weights(study):
    config = resolve("tiny")
    reading = read_lesions(TorchPasses(build_network(config, 2)), study, np.asarray(study.mask), config)[1]
    assert reading.fusion.shape == (4,)
    assert (reading.fusion > 0).all()
    assert (reading.fusion < 1).all()
    assert reading.attention.sum() == pytest.approx(1)
    plain = resolve("tiny", assignments=["fusion=concat"])
    assert (
        read_lesions(TorchPasses(build_network(plain, 2)), study, np.asarray(study.mask), plain)[1].fusion
        is None
    )
