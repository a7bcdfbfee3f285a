import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mtinet.config import AugmentationSettings, Config, PreparationSettings, SamplingSettings
from mtinet.data.dataset import PatchDataset, collate
from mtinet.data.preparation import prepare_for_prediction, prepare_study

CLASSES = ("hemangioma", "hcc")
OWN = PreparationSettings(spacing_mm=(None, None, None))
OFF = AugmentationSettings(enabled=False)
QUIET = AugmentationSettings(noise=0.0, gain=0.4, bias=0.3)


def config(spatial_dims=2, augmentation=OFF, **sampling):
    size = {2: (24, 24), 3: (6, 24, 24)}[spatial_dims]
    return Config(
        spatial_dims=spatial_dims,
        sampling=SamplingSettings(**{"patch_size": size, **sampling}),
        augmentation=augmentation,
        preparation=OWN,
    )


@pytest.fixture
def studies(toy_cohort, tmp_path):
    phases = toy_cohort.phases
    return [prepare_study(study, phases, OWN, tmp_path / "cache") for study in toy_cohort.studies]


def same(a, b):
    return a.keys() == b.keys() and all(
        torch.equal(torch.nan_to_num(a[k]), torch.nan_to_num(b[k])) for k in a
    )


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_batch_has_the_shapes_and_types_of_the_contract(studies, spatial_dims):
    data = PatchDataset(studies, config(spatial_dims, AugmentationSettings()), CLASSES, seed=0)
    batch = collate([data.sample(0, slot) for slot in range(8)])
    size = data.sampling.patch_size
    rows = batch["region_valid"].shape[1]
    expected = {
        "image": ((8, 4, *size), torch.float32),
        "phase_present": ((8, 4), torch.bool),
        "phase_times_s": ((8, 4), torch.float32),
        "labels": ((8, *size), torch.int64),
        "mask_known": ((8,), torch.bool),
        "liver": ((8, *size), torch.bool),
        "liver_known": ((8,), torch.bool),
        "enhancement": ((8, rows, 4), torch.float32),
        "enhancement_known": ((8, rows, 4), torch.bool),
        "lesion_class": ((8, rows), torch.int64),
        "region_valid": ((8, rows), torch.bool),
        "study_index": ((8,), torch.int64),
    }
    assert {name: (tuple(v.shape), v.dtype) for name, v in batch.items()} == expected
    assert torch.isfinite(batch["image"]).all()
    assert torch.isfinite(batch["enhancement"]).all()
    assert rows >= 1
    assert batch["labels"].max() <= rows


def test_a_sample_is_a_function_of_seed_step_and_slot(studies):
    made = config(2, AugmentationSettings(phase_dropout=0.3))
    data = PatchDataset(studies, made, CLASSES, seed=3)
    forwards = [data.sample(step, slot) for step in range(3) for slot in range(3)]
    again = PatchDataset(pickle.loads(pickle.dumps(studies)), made, CLASSES, seed=3)
    backwards = [again[step, slot] for step in (2, 1, 0) for slot in (2, 1, 0)][::-1]
    assert all(same(a, b) for a, b in zip(forwards, backwards))
    assert not same(forwards[0], forwards[1])
    assert not same(forwards[0], PatchDataset(studies, made, CLASSES, seed=4).sample(0, 0))


@pytest.mark.slow
def test_loader_processes_do_not_change_a_sample(studies):
    data = PatchDataset(studies, config(2, AugmentationSettings()), CLASSES, seed=0)
    keys = [[(step, slot) for slot in range(2)] for step in range(3)]
    here = list(DataLoader(data, batch_sampler=keys, collate_fn=collate))
    there = list(DataLoader(data, batch_sampler=keys, collate_fn=collate, num_workers=2))
    assert all(same(a, b) for a, b in zip(here, there))


def test_in_2d_the_target_is_the_mean_under_the_mask_of_the_patch(studies):
    data = PatchDataset(studies, config(2, QUIET, lesion_fraction=1.0), CLASSES, seed=0)
    seen = 0
    for slot in range(20):
        sample = data.sample(0, slot)
        for row in torch.nonzero(sample["region_valid"]).ravel().tolist():
            read = sample["image"][:, sample["labels"] == row + 1].mean(dim=1)
            known = sample["enhancement_known"][row]
            torch.testing.assert_close(sample["enhancement"][row][known], read[known], rtol=1e-4, atol=1e-5)
            assert torch.equal(known, sample["phase_present"])
            seen += 1
    assert seen > 10


def test_in_3d_the_target_is_that_of_the_whole_lesion_under_the_same_field(studies):
    data = PatchDataset(studies, config(3, OFF, lesion_fraction=1.0), CLASSES, seed=0)
    moved = PatchDataset(studies, config(3, QUIET, lesion_fraction=1.0), CLASSES, seed=0)
    compared = 0
    for slot in range(12):
        sample, brighter = data.sample(0, slot), moved.sample(0, slot)
        study = studies[int(sample["study_index"])]
        if not study.lesions or not sample["region_valid"][0]:
            continue
        whole = [study.lesions[0].enhancement.get(phase, 0.0) for phase in study.phases]
        torch.testing.assert_close(sample["enhancement"][0], torch.tensor(whole))
        if brighter["region_valid"][0]:
            ratio = (brighter["enhancement"] / sample["enhancement"])[0][brighter["enhancement_known"][0]]
            torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
            compared += 1
    assert compared > 3


def test_the_gain_scales_image_and_target_alike(studies):
    only_gain = AugmentationSettings(rotation_deg=0, scale=0, translation=0, gain=0.5, bias=0, noise=0)
    plain = PatchDataset(studies, config(2, OFF, lesion_fraction=1.0), CLASSES, seed=1)
    louder = PatchDataset(studies, config(2, only_gain, lesion_fraction=1.0), CLASSES, seed=1)
    for slot in range(6):
        a, b = plain.sample(0, slot), louder.sample(0, slot)
        gain = b["image"].sum() / a["image"].sum()
        assert abs(float(gain) - 1) > 1e-3
        torch.testing.assert_close(b["image"], gain * a["image"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(b["enhancement"], gain * a["enhancement"], rtol=1e-4, atol=1e-5)


def test_noise_does_not_move_the_target(studies):
    noise = AugmentationSettings(rotation_deg=0, scale=0, translation=0, gain=0, bias=0, noise=0.5)
    plain = PatchDataset(studies, config(2, OFF, lesion_fraction=1.0), CLASSES, seed=1).sample(0, 0)
    noisy = PatchDataset(studies, config(2, noise, lesion_fraction=1.0), CLASSES, seed=1).sample(0, 0)
    torch.testing.assert_close(noisy["enhancement"], plain["enhancement"])
    assert (noisy["image"] - plain["image"]).std() > 0.3


def test_missing_and_dropped_phases_are_zero_and_unknown(studies):
    dropping = AugmentationSettings(phase_dropout=0.6, noise=0.1)
    data = PatchDataset(studies, config(2, dropping, lesion_fraction=1.0), CLASSES, seed=0)
    hidden = 0
    for slot in range(20):
        sample = data.sample(0, slot)
        absent = ~sample["phase_present"]
        assert sample["phase_present"].any()
        assert not sample["image"][absent].any()
        assert not sample["enhancement_known"][:, absent].any()
        hidden += int(absent.sum())
    assert hidden > 10


def test_lesions_are_found_as_often_as_asked(studies):
    with_lesion = studies[:4]

    def share(fraction):
        made = config(2, OFF, lesion_fraction=fraction, patch_size=(12, 12))
        data = PatchDataset(with_lesion, made, CLASSES, seed=0)
        return np.mean([bool((data.sample(0, slot)["labels"] > 0).any()) for slot in range(150)])

    assert share(1.0) > 0.9
    assert share(0.0) < 0.5


def test_other_patches_lie_in_the_liver_as_often_as_asked(studies):
    healthy = [study for study in studies if not study.lesions and study.liver is not None]
    assert healthy

    def share(of, **sampling):
        data = PatchDataset(of, config(2, OFF, patch_size=(2, 2), **sampling), CLASSES, seed=0)
        return np.mean([bool(data.sample(0, slot)["liver"].any()) for slot in range(150)])

    background = share(healthy, lesion_fraction=0.0, liver_fraction=0.0)
    assert share(healthy, lesion_fraction=0.0, liver_fraction=1.0) > 0.9 > 2 * background
    unknown = [replace(study, has_liver=False) for study in healthy]
    assert share(unknown, lesion_fraction=0.0, liver_fraction=1.0) == 0.0


@pytest.mark.parametrize("told", ["by the study", "by its lesions"])
def test_balanced_draws_every_class_equally_often(studies, told):
    if told == "by its lesions":
        studies = [replace(s, label="") if s.lesions else s for s in studies]
    uneven = [studies[0], studies[2], studies[0], studies[2], studies[0], studies[1], studies[4]]
    labels = [study.lesions[0].label if study.lesions else "none" for study in uneven]
    assert labels.count("hcc") == 5

    def drawn(how):
        data = PatchDataset(uneven, config(cases_per_class=how), CLASSES, seed=0)
        found = [labels[data._draw_study(np.random.default_rng([0, i]))] for i in range(1500)]
        return {label: found.count(label) / len(found) for label in set(labels)}

    assert drawn("balanced") == pytest.approx({"hcc": 3 / 7, "hemangioma": 3 / 7, "none": 1 / 7}, abs=0.05)
    assert drawn("natural") == pytest.approx({"hcc": 5 / 7, "hemangioma": 1 / 7, "none": 1 / 7}, abs=0.05)


def test_without_a_mask_the_whole_patch_carries_the_class_only(toy, tmp_path):
    study = prepare_for_prediction(
        toy.write(tmp_path, "s"), ("pre", "arterial", "portal_venous", "delayed"), OWN
    )
    sample = PatchDataset([study], config(), CLASSES, seed=0).sample(0, 0)
    assert not sample["mask_known"]
    assert (sample["labels"] == 1).all()
    assert sample["region_valid"].tolist() == [True]
    assert sample["lesion_class"].tolist() == [CLASSES.index("hcc")]
    assert not sample["enhancement_known"].any()
    unlabelled = PatchDataset([replace(study, label="")], config(), CLASSES, seed=0).sample(0, 0)
    assert not unlabelled["region_valid"].any()
    assert not unlabelled["labels"].any()


def test_without_a_label_masks_and_enhancement_are_trained(studies):
    lesion = replace(studies[0].lesions[0], label="")
    study = replace(studies[0], label="", lesions=(lesion,))
    sample = PatchDataset([study], config(lesion_fraction=1.0), CLASSES, seed=0).sample(0, 0)
    assert sample["lesion_class"].tolist() == [-1]
    assert sample["enhancement_known"].any()
    assert sample["mask_known"]


def test_a_study_without_lesion_has_no_valid_region(studies):
    sample = PatchDataset([studies[4]], config(), CLASSES, seed=0).sample(0, 0)
    assert sample["mask_known"]
    assert not sample["labels"].any()
    assert not sample["region_valid"].any()
    assert sample["lesion_class"].tolist() == [-1]


def test_a_speck_of_a_lesion_trains_the_mask_only(studies):
    mask = np.zeros(studies[0].shape, np.uint8)
    mask[4, 16, 20:23] = 1  # three voxels
    lesion = replace(studies[0].lesions[0], voxels=3, box=((4, 5), (16, 17), (20, 23)))
    memory = {"image": np.array(studies[0].image), "mask": mask, "liver": np.array(studies[0].liver)}
    study = replace(studies[0], folder=None, memory=memory, lesions=(lesion,))
    sample = PatchDataset([study], config(lesion_fraction=1.0), CLASSES, seed=0).sample(0, 1)
    assert (sample["labels"] == 1).sum() == 3
    assert sample["region_valid"].tolist() == [False]


def test_a_class_that_is_not_trained_is_refused_by_name(studies):
    with pytest.raises(ValueError, match=r"study s0: 'hcc' is not among the classes cyst"):
        PatchDataset(studies, config(), ("cyst",), seed=0)
    with pytest.raises(ValueError, match="no study"):
        PatchDataset([], config(), CLASSES, seed=0)


def test_an_error_names_its_study(studies):
    broken = replace(studies[0], folder=studies[0].folder / "gone")
    with pytest.raises(RuntimeError, match=r"study s0 \(step 7, slot 2\)"):
        PatchDataset([broken], config(), CLASSES, seed=0).sample(7, 2)


@pytest.mark.parametrize("patch_size", [(24, 24), (23, 20), (50, 60)])
def test_without_augmentation_a_patch_is_a_piece_of_the_study(studies, patch_size):
    """Every value of the patch is one of the study's: nothing is interpolated."""
    data = PatchDataset(studies[:1], config(patch_size=patch_size), CLASSES, seed=0)
    values = np.unique(np.append(studies[0].image[0], 0.0))
    for slot in range(4):
        pixels = data.sample(0, slot)["image"][0].numpy().ravel()
        above = np.searchsorted(values, pixels).clip(1, len(values) - 1)
        nearest = np.minimum(np.abs(values[above] - pixels), np.abs(values[above - 1] - pixels))
        assert nearest.max() < 1e-4
