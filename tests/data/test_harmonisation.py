from dataclasses import replace

import numpy as np
import pytest

from mtinet.data.harmonisation import LEAST_STEP, Harmonisation, SignalMap, fit
from mtinet.data.prepared import PreparedLesion, PreparedStudy

PHASES = ("pre", "arterial", "delayed")


def patient(seed: int, site: str = "A", gain: tuple[float, ...] = (1.0, 1.0, 1.0)) -> PreparedStudy:
    """A body in air with tissues of several signals and a lesion; the phases scaled by ``gain``."""
    rng = np.random.default_rng(seed)
    body = np.zeros((4, 40, 48), dtype=bool)
    body[:, 6:34, 6:42] = True
    tissue = 0.5 + 0.4 * rng.random(body.shape)
    mask = np.zeros(body.shape, dtype=np.uint8)
    mask[1:3, 14:22, 20:28] = 1
    image = np.stack([np.where(body, tissue * level, 0.01) for level in (0.6, 1.0, 0.9)])
    image[:, mask > 0] *= np.array([0.8, 1.4, 0.9])[:, None]
    image = (image * np.array(gain)[:, None, None, None]).astype(np.float32)
    means = {p: float(part[mask > 0].mean()) for p, part in zip(PHASES, image)}
    return PreparedStudy(
        study_id=f"{site}{seed}",
        patient_id=f"{site}{seed}",
        site=site,
        label="hcc",
        phases=PHASES,
        present=(True,) * 3,
        times_s=(0.0, 20.0, 180.0),
        reference_phase="delayed",
        gain=100.0,
        affine=np.eye(4),
        source_shape=(48, 40, 4),
        source_affine=np.eye(4),
        has_mask=True,
        has_liver=False,
        lesions=(PreparedLesion(1, "hcc", 128, 10.0, means, ((1, 3), (14, 22), (20, 28))),),
        memory={"image": image, "mask": mask},
    )


def levels(study: PreparedStudy) -> np.ndarray:
    return np.log(study.image[:, :, 6:34, 6:42].mean((1, 2, 3)))


def test_a_map_and_its_inverse_undo_each_other_everywhere():
    rng = np.random.default_rng(0)
    knots = [np.cumsum(np.c_[np.zeros(3), rng.uniform(0.01, 0.5, (3, 6))], axis=1) for _ in range(2)]
    signal = rng.uniform(-0.5, 9.0, (3, 50))
    mapped = SignalMap(*knots)
    np.testing.assert_allclose(mapped.inverse(mapped.forward(signal)), signal, atol=1e-9)
    assert mapped.forward(np.zeros(3)).tolist() == [0, 0, 0]
    rising = np.sort(signal, axis=1)
    assert (np.diff(mapped.forward(rising), axis=1) > 0).all()
    assert np.isnan(mapped.inverse(np.array([np.nan, 1.0, 1.0]))).tolist() == [True, False, False]


def test_nyul_undoes_what_one_rising_curve_a_study_did():
    training = [patient(seed) for seed in range(6)]
    harmonisation = fit("nyul", training)
    plain = patient(50)
    bent = replace(plain, memory={**plain.memory, "image": (1.3 * plain.image**1.4).astype(np.float32)})
    inside = np.s_[:, :, 6:34, 6:42]
    before = np.abs(bent.image[inside] - plain.image[inside]).mean()
    after = np.abs(harmonisation.apply(bent).image[inside] - harmonisation.apply(plain).image[inside]).mean()
    assert after < 0.1 * before
    # a study from the training's own distribution hardly changes
    assert np.abs(harmonisation.apply(plain).image[inside] - plain.image[inside]).mean() < 0.02


def test_nyul_keeps_the_order_of_the_phases_in_every_voxel():
    harmonisation = fit("nyul", [patient(seed) for seed in range(3)])
    study = patient(9, gain=(1.0, 0.7, 1.2))
    mapped = harmonisation.apply(study).image
    for a, b in ((0, 1), (1, 2), (0, 2)):
        higher = study.image[a] > study.image[b] + LEAST_STEP
        assert (mapped[a] > mapped[b])[higher].all()


def test_combat_takes_away_the_sites_gains_by_phase_and_leaves_a_new_site_alone():
    pytest.importorskip("combatlearn", reason="the package of the extra combat is not installed")
    gains = {"A": (1.0, 1.0, 1.0), "B": (1.4, 0.7, 1.0), "C": (0.8, 1.2, 1.1)}
    training = [patient(i, site, gain) for site, gain in gains.items() for i in range(5)]
    harmonisation = fit("combat", training)
    after = {
        site: np.mean([levels(harmonisation.apply(patient(90, site, g)))], axis=0)
        for site, g in gains.items()
    }
    before = {site: levels(patient(90, site, g)) for site, g in gains.items()}
    spread = [np.ptp(list(found.values()), axis=0).max() for found in (before, after)]
    assert spread[1] < 0.1 * spread[0]
    unseen = patient(91, "D", (2.0, 1.0, 1.0))
    assert harmonisation.apply(unseen) is unseen
    assert not harmonisation.knows("D")
    np.testing.assert_array_equal(
        harmonisation.map_of(unseen).inverse(np.array([0.3, 0.2, 0.1])), [0.3, 0.2, 0.1]
    )


def test_combat_has_nothing_to_compare_at_one_site():
    assert fit("combat", [patient(i) for i in range(4)]).log_gain == {}
    lonely = [patient(0, "A"), patient(1, "A"), patient(2, "B")]
    assert fit("combat", lonely).log_gain == {}


@pytest.mark.parametrize(
    "harmonisation",
    [
        fit("nyul", [patient(seed) for seed in range(3)]),
        Harmonisation("combat", log_gain={"A": (0.2, -0.1, 0.05)}),
    ],
    ids=lambda h: h.kind,
)
def test_images_and_targets_change_together_and_come_back(harmonisation: Harmonisation):
    study = patient(7)
    seen = harmonisation.apply(study)
    inside = study.mask > 0
    for phase, image in zip(PHASES, seen.image):
        assert seen.lesions[0].enhancement[phase] == pytest.approx(float(image[inside].mean()), rel=1e-5)
    back = harmonisation.map_of(study).inverse(np.array([seen.lesions[0].enhancement[p] for p in PHASES]))
    # of the mean it is the inverse of the mean: exact for a gain, close for a bent line
    np.testing.assert_allclose(back, [study.lesions[0].enhancement[p] for p in PHASES], rtol=0.02)
    image = harmonisation.map_of(study).inverse(seen.image)
    np.testing.assert_allclose(image, study.image, atol=1e-5)
    again = Harmonisation.from_dict(harmonisation.to_dict())
    np.testing.assert_array_equal(again.apply(study).image, seen.image)


def test_a_missing_phase_stays_missing():
    whole = patient(3)
    image = whole.image.copy()
    image[1] = 0
    lacking = replace(whole, present=(True, False, True), memory={**whole.memory, "image": image})
    seen = fit("nyul", [patient(seed) for seed in range(3)]).apply(lacking)
    assert (seen.image[1] == 0).all()
    assert np.isfinite(seen.image).all()
