from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtinet.config import DEFAULT_PHASES, PreparationSettings
from mtinet.data import cache
from mtinet.data.preparation import prepare_study
from mtinet.errors import UserError

SETTINGS = PreparationSettings(spacing_mm=(12.0, 12.0, None))


@pytest.fixture
def study(toy, tmp_path):
    return toy.write(tmp_path, "s/1")


def prepare(study, place, settings=SETTINGS, phases=DEFAULT_PHASES, labels=None):
    return prepare_study(study, phases, settings, place, labels)


def test_the_second_time_it_is_opened_not_computed(study, tmp_path, monkeypatch):
    first = prepare(study, tmp_path / "c")
    monkeypatch.setattr("mtinet.data.preparation._prepare", None)
    again = prepare(study, tmp_path / "c")
    assert again.folder == first.folder
    assert isinstance(again.image.base, np.memmap)
    for name in ("image", "mask", "liver", "affine", "source_affine", "times_s"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    assert again.lesions == first.lesions


def test_whatever_changes_a_prepared_study_changes_its_key(study, tmp_path, monkeypatch):
    keys = [prepare(study, tmp_path / "c").key]
    keys.append(prepare(study, tmp_path / "c", SETTINGS.model_copy(update={"gain_percentile": 90.0})).key)
    keys.append(prepare(study, tmp_path / "c", phases=("pre", "delayed")).key)
    keys.append(prepare(replace(study, label="hemangioma"), tmp_path / "c").key)
    keys.append(prepare(replace(study, times_s={}), tmp_path / "c").key)
    keys.append(prepare(study, tmp_path / "c", labels={1: "cyst"}).key)
    monkeypatch.setattr(cache, "PREPARATION_REVISION", cache.PREPARATION_REVISION + 1)
    keys.append(prepare(study, tmp_path / "c").key)
    assert len(set(keys)) == len(keys)


def test_a_mask_drawn_anew_is_seen(study, toy, tmp_path):
    before = prepare(study, tmp_path / "c")
    mask = toy.mask.array.copy()
    mask[mask > 0] = np.arange((mask > 0).sum()) % 2
    toy.mask.with_array(mask).write_nifti(study.mask)
    after = prepare(study, tmp_path / "c")
    assert after.key != before.key
    assert after.lesions[0].voxels < before.lesions[0].voxels


def test_a_moved_cohort_finds_its_prepared_studies(study, toy, tmp_path):
    moved = toy.write(tmp_path / "elsewhere", "s/1")
    assert prepare(moved, tmp_path / "c").key == prepare(study, tmp_path / "c").key


@pytest.mark.parametrize("damage", ["meta.json", "image.npy", "mask.npy"])
@pytest.mark.parametrize("how", ["removed", "truncated"])
def test_a_damaged_entry_is_prepared_again(study, tmp_path, damage, how):
    whole = prepare(study, tmp_path / "c")
    image = np.array(whole.image)
    file = whole.folder / damage
    if how == "removed":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:50])
    again = prepare(study, tmp_path / "c")
    np.testing.assert_array_equal(again.image, image)


def test_writers_may_race(study, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: prepare(study, tmp_path / "c"), range(4)))
    assert len({one.folder for one in found}) == 1
    assert [path.name for path in (tmp_path / "c").iterdir()] == [found[0].folder.name]
    np.testing.assert_array_equal(found[0].image, found[-1].image)


def test_entries_are_listed_and_cleared_and_nothing_else_is(study, tmp_path):
    place = tmp_path / "c"
    prepared = prepare(study, place)
    other = place / "notes"
    other.mkdir()
    (other / "meta.json").write_text("{}")
    (entry,) = cache.cache_entries(place)
    assert (entry.study_id, entry.key) == ("s/1", prepared.key)
    assert entry.size_bytes > prepared.image.nbytes
    assert cache.clear(place) == 1
    assert cache.cache_entries(place) == []
    assert (other / "meta.json").is_file()


def test_the_cache_lies_where_it_was_asked_for_else_in_the_cohort_else_with_the_user(tmp_path, monkeypatch):
    assert cache.cache_folder(tmp_path / "given", tmp_path) == tmp_path / "given"
    assert cache.cache_folder(None, tmp_path) == tmp_path / ".cache"
    monkeypatch.setattr("os.access", lambda *_: False)
    assert cache.cache_folder().parts[-2:] == (".cache", "mtinet")
    places = {cache.cache_folder(None, tmp_path / name / "cohort") for name in ("a", "b")}
    assert len(places) == 2
    assert all(place.is_relative_to(cache.cache_folder()) for place in places)
    monkeypatch.chdir(tmp_path)
    assert cache.cache_folder(None, Path("a/cohort")) in places


def test_the_users_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert cache.cache_folder() == tmp_path / "elsewhere" / "mtinet"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the standard tells to ignore
    assert cache.cache_folder() == Path.home() / ".cache" / "mtinet"


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", homeless)
    with pytest.raises(UserError, match="set XDG_CACHE_HOME or HOME"):
        cache.cache_folder()
