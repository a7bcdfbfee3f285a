"""Phase identification: traps seen in real data, habits of vendors and languages, and what always holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtinet.dicom.series import Grid, SeriesInfo, VolumeInfo
from mtinet.errors import UserError
from mtinet.imaging.phases import identify
from mtinet.imaging.phases.names import read_name
from mtinet.volume import Volume

DYNAMIC = [("Ax LAVA pre", 96), ("Ax LAVA art", 96), ("Ax LAVA portal", 96), ("Ax LAVA 3 min", 96)]


def study(*series: tuple[str, int], agent: str = "", start: int = 1) -> list[SeriesInfo]:
    return [
        SeriesInfo("s", f"1.2.{n}", str(n), description=name, n_images=count, agent=agent)
        for n, (name, count) in enumerate(series, start=start)
    ]


def answers(series: list[SeriesInfo]) -> dict[str, str]:
    found = identify(series).phases
    return {
        phase: c.series_number if c.n_volumes == 1 else f"{c.series_number}#{c.volume}"
        for phase, c in found.items()
        if c is not None
    }


def reasons(series: list[SeriesInfo]) -> dict[str, str]:
    return {item.series_number: item.reason for item in identify(series).excluded}


# Series that hold several phases, from the list of traps in real data.
@pytest.mark.parametrize(
    ("series", "expected"),
    [
        pytest.param(
            [("Ax LAVA pre", 96), ("Ax LAVA +C Multiphase 15,35,65", 288)],
            {"pre": "1", "arterial": "2#0", "arterial_late": "2#1", "portal_venous": "2#2"},
            id="times in the name",
        ),
        pytest.param(
            [("lava pre", 112), ("lava post", 336)],
            {"pre": "1", "arterial": "2#0", "portal_venous": "2#1", "delayed": "2#2"},
            id="a multiple of the unenhanced volume",
        ),
        pytest.param(
            [("T2 SPAIR AX", 42), ("DYNAMIC", 520), ("mDIXON +C DELAYED COR", 130)],
            {"pre": "2#0", "arterial": "2#1", "portal_venous": "2#2", "delayed": "2#3"},
            id="the unenhanced volume inside",
        ),
        pytest.param(
            [("AX LAVA", 104), ("20SEC/1MIN POST LAVA AX F/S", 208)],
            {"pre": "1", "arterial": "2#0", "portal_venous": "2#1"},
            id="no delayed phase",
        ),
    ],
)
def test_a_series_that_holds_several_phases_comes_apart(series, expected):
    assert answers(study(*series)) == expected


@pytest.mark.parametrize(
    "more",
    [
        ("T1 VIBE HBP 20 min", 40),
        ("t1_vibe_tra_navi", 40),
        ("T1 VIBE HBP 20 min", 160),
    ],
)
def test_a_series_of_half_or_twice_the_images_does_not_split_those_that_tell_one_phase(more):
    series = study(("VIBE PRE", 80), ("VIBE ART", 80), ("VIBE PV", 80), ("VIBE 3 min", 80), more)
    dynamic = {"pre": "1", "arterial": "2", "portal_venous": "3", "delayed": "4"}
    assert answers(series).items() >= dynamic.items()


@pytest.mark.parametrize(
    ("names", "phases"),
    [
        (("LAVA PRE", "+C 25 sec", "+C 70 sec", "+C 2 min 30 sec"), ("arterial", "portal_venous", "delayed")),
        (
            ("LAVA PRE", "early arterial", "LAVA late hepatic arterial", "portal"),
            ("arterial", "arterial_late", "portal_venous"),
        ),
        (("LAVA PRE", "arterial", "portal", "LAVA DELAYED VENOUS"), ("arterial", "portal_venous", "delayed")),
        (
            ("VIBE PRE", "arteriel", "portal", "tardif hepatobiliaire"),
            ("arterial", "portal_venous", "hepatobiliary"),
        ),
    ],
)
def test_a_name_of_two_words_for_one_phase_is_one_volume(names, phases):
    found = answers(study(*((name, 80) for name in names)))
    assert found == {"pre": "1", **{phase: str(n) for n, phase in enumerate(phases, start=2)}}


@pytest.mark.parametrize(
    "name",
    ["PRE CONTRAST", "without contrast", "non-contrast", "vor KM", "ohne KM", "sans gado", "avant inj", "sin contraste",
     "PRE GD", "pré-contraste", "w/o contrast"],
)  # fmt: skip
def test_before_contrast_is_not_after_it(name):
    reading = read_name(study((f"T1 VIBE {name}", 80))[0])
    assert (reading.pre, reading.post) == (True, False)


@pytest.mark.parametrize("name", ["pre post", "pre + post", "without and with contrast"])
def test_before_and_after_contrast_is_both(name):
    reading = read_name(study((f"T1 VIBE {name}", 80))[0])
    assert (reading.pre, reading.post) == (True, True)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("COR ARTERIAL MPR", "reformat"),
        ("SUB_S11-S9_1", "subtraction"),
        ("(44675/14/1)-(44675/13/1)", "subtraction"),
        ("ART MIP", "maximum intensity projection"),
        ("t1_vibe_fs_cor_p2_bh post", "coronal"),
        ("3 plane loc", "localizer"),
        ("care_bolus_SAG", "bolus"),
        ("Smart Prep", "bolus"),
        ("realtime", "bolus"),
        ("AX T2 HASTE post", "T2"),
        ("AX FASE", "T2"),
        ("Ax 3D FASE FS", "T2"),
        ("T2 FASE ARTERIAL", "T2"),
        ("AX PDW FS", "T2"),
        ("pd_tse_fs_tra", "T2"),
        ("ep2d_diff_b50_400_800_ADC", "diffusion"),
        ("IN/OUT PHASE AXIAL", "phase"),
        ("t1_vibe_dixon_tra_opp", "phase"),
        ("FAT: Ax LAVA-Flex", "fat"),
        ("LAVA PELVIS POST", "region"),
        ("AX VIBE 2nd injection", "second injection"),
        ("AX VIBE inj 2", "second injection"),
        ("T1 en phase", "phase"),
    ],
)
def test_look_alikes_are_set_aside_with_the_reason(name, reason):
    series = study(*DYNAMIC, (name, 96))
    assert reason in reasons(series)["5"]
    assert answers(series) == answers(study(*DYNAMIC))


@pytest.mark.parametrize(
    "names",
    [
        ("t1 vibe nativ", "t1 vibe arteriell", "t1 vibe portalvenös", "t1 vibe spät"),
        ("VIBE sans inj", "VIBE artériel", "VIBE portal", "VIBE tardif"),
        ("T1 sans injection", "T1 en phase artérielle", "T1 en phase portale", "T1 en phase tardive"),
        ("T1 SANS INJ", "T1 INJ 25 s", "T1 apres inj 70s", "T1 INJ 3 min"),
        ("T1 sans injection", "T1 temps artériel", "T1 phase veineuse", "T1 phase tardive"),
        ("t1 vibe ohne KM", "t1 vibe arteriell", "t1 vibe venoes", "t1 vibe spaet"),
        ("THRIVE sin contraste", "THRIVE arterial", "THRIVE venosa", "THRIVE tardia"),
        ("LAVA basale senza mdc", "LAVA arteriosa", "LAVA portale", "LAVA ritardata"),
        ("AX T1 VIBE SIN CONTRASTE", "T1 VIBE FASE ARTERIAL", "T1 VIBE FASE PORTAL", "T1 VIBE FASE TARDIA"),
        ("FASE SEM CONTRASTE", "FASE ARTERIAL", "FASE PORTAL", "FASE DE EQUILIBRIO"),
        ("VIBE SANS PDC", "VIBE PDC ART", "VIBE PDC PORTAL", "VIBE PDC TARDIF"),
        ("eTHRIVE blanco", "eTHRIVE arterieel", "eTHRIVE veneus portaal", "eTHRIVE laat"),
        ("LAVA 平扫", "LAVA 动脉期", "LAVA 门脉期", "LAVA 延迟期"),
        ("LAVA C-", "LAVA C+A", "LAVA C+V", "LAVA C+Delay"),
        ("FAME pre", "FAME 20 sec", "FAME 70 sec", "FAME 3 min"),
        ("mDIXON-W PRE", "mDIXON +C 1ST", "mDIXON +C 2ND", "mDIXON +C 3RD"),
    ],
)
def test_names_alone_suffice_in_many_languages(names):
    unordered = [replace(s, series_number="") for s in study(*((name, 90) for name in names))]
    found = identify(unordered).phases
    expected = {"pre": "1.2.1", "arterial": "1.2.2", "portal_venous": "1.2.3", "delayed": "1.2.4"}
    assert {phase: c.series_uid for phase, c in found.items() if c} == expected


def test_a_hepatobiliary_image_is_not_a_delayed_one():
    series = study(*DYNAMIC[:3], ("Ax LAVA 3 min", 96), ("Ax LAVA HBP 20min", 96), agent="Eovist")
    found = answers(series)
    assert found["hepatobiliary"] == "5"
    assert found["transitional"] == "4"
    assert "delayed" not in found


def test_where_nothing_tells_the_order_nothing_is_stated():
    series = [replace(s, series_number="") for s in study(*[("VIBE_AXIAL_P", 72)] * 4)]
    found = identify(series)
    assert not any(found.phases.values())
    assert any("order of acquisition is not known" in item.reason for item in found.missing)


PROTOCOL = (("HASTE cor", 25), ("T2 TSE", 30), ("in/out phase", 60), ("vibe", 72), ("care bolus", 20),
            ("vibe", 72), ("vibe", 72), ("vibe", 72), ("vibe cor", 60))  # fmt: skip


def numbered(*numbers: int) -> list[SeriesInfo]:
    return [replace(s, series_number=str(n)) for s, n in zip(study(*PROTOCOL), numbers, strict=True)]


def test_numbers_are_believed_as_far_as_the_protocol_bears_them_out():
    assert answers(study(*PROTOCOL)) == {"pre": "4", "arterial": "6", "portal_venous": "7", "delayed": "8"}
    assert answers(numbered(5, 7, 8, 2, 9, 4, 1, 6, 3)) == {}


@pytest.mark.parametrize(
    ("numbers", "said"), [("379158246", "more like an examination"), (" " * 9, "there are no series numbers")]
)
def test_rows_that_give_the_order_are_named_as_what_gave_it(numbers, said):
    listed = [
        ("3 Plane Loc", 30),
        ("Cor SSFSE", 40),
        ("InPhase OutPhase", 100),
        ("Ax LAVA", 96),
        ("SmartPrep", 20),
    ]
    listed += [("Ax LAVA +C", 96)] * 3 + [("Ax DWI", 80)]
    series = [
        replace(one, row=n, series_uid=f"2.{7 * n % 11}", series_number=numbers[n].strip())
        for n, one in enumerate(study(*listed))
    ]
    found = [choice for choice in identify(series).phases.values() if choice is not None]
    assert len(found) == 4
    for choice in found:
        assert any(said in line for line in choice.evidence)


def test_what_names_tell_survives_shuffled_numbers():
    names = ("vibe pre", "vibe art", "vibe portal", "vibe 5 min")
    series = [s for s in study(*PROTOCOL) if "vibe" not in s.description]
    series += [SeriesInfo("s", f"1.3.{n}", str(n), name, n_images=72) for n, name in zip((2, 9, 4, 1), names)]
    rest = [replace(s, series_number=str(n)) for s, n in zip(series[:4], (7, 3, 8, 5))]
    assert answers([*rest, *series[-4:]]) == {
        "pre": "2", "arterial": "9", "portal_venous": "4", "delayed": "1"
    }  # fmt: skip


def test_the_times_of_a_table_decide_where_its_numbers_do_not():
    series = numbered(5, 7, 8, 2, 9, 4, 1, 6, 3)
    timed = [
        replace(s, time_s=36000.0 + t) for s, t in zip(series, (0, 60, 120, 180, 240, 270, 310, 460, 600))
    ]
    found = identify(timed).phases
    assert answers(timed) == {"pre": "2", "arterial": "4", "portal_venous": "1", "delayed": "6"}
    assert any("order of acquisition time" in text for text in found["arterial"].evidence)


@pytest.mark.parametrize("name", ["t1_vibe", "t1_vibe {}"])
def test_a_study_that_goes_on_after_midnight_keeps_its_order(name):
    series = study(*((name.format(word), 72) for word in ("pre", "art", "pv", "delayed")))
    apart = (0.0, 75.0, 115.0, 240.0)

    def at(start: float) -> dict[str, str]:
        """The phases of the study begun at a time of day; what else could tell the order is gone."""
        timed = [replace(s, time_s=(start + t) % 86400.0, series_number="") for s, t in zip(series, apart)]
        return {phase: c.series_uid for phase, c in identify(timed).phases.items() if c}

    expected = at(36000.0)
    assert list(expected) == ["pre", "arterial", "portal_venous", "delayed"]
    for start in (86390.0, 86320.0, 86200.0):
        assert at(start) == expected


def silent(*counts: int) -> list[SeriesInfo]:
    return study(*(("series", count) for count in counts))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param(
            (24, 60, 30, 80, 20, 80, 80, 80, 48),
            {"pre": "4", "arterial": "6", "portal_venous": "7", "delayed": "8"},
            id="the bolus is timed behind the unenhanced volume",
        ),
        pytest.param(
            (15, 38, 76, 92, 92, 92, 92, 92),
            {"pre": "4", "arterial": "5", "portal_venous": "6", "delayed": "8"},
            id="two late volumes",
        ),
        pytest.param(
            (63, 35, 30, 100, 64, 300, 32),
            {"pre": "4", "arterial": "6#0", "portal_venous": "6#1", "delayed": "6#2"},
            id="three volumes in one series",
        ),
        pytest.param(
            (15, 70, 36, 72, 36, 84, 20, 84, 84, 84),
            {"pre": "6", "arterial": "8", "portal_venous": "9", "delayed": "10"},
            id="in and out of phase has twice the images of another scan",
        ),
    ],
)
def test_without_names_counts_and_order_decide_and_say_that_they_are_not_sure(counts, expected):
    series = silent(*counts)
    assert answers(series) == expected
    for choice in identify(series).phases.values():
        assert choice is None or choice.confidence <= 0.85


def test_a_gap_in_the_numbers_is_a_missing_phase_not_a_shift():
    full = study(
        ("HASTE", 30),
        ("vibe", 72),
        ("care bolus", 20),
        ("vibe", 72),
        ("vibe", 72),
        ("vibe", 72),
        ("vibe cor", 60),
    )
    without = [s for s in full if s.series_number != "4"]
    assert answers(full) == {"pre": "2", "arterial": "4", "portal_venous": "5", "delayed": "6"}
    assert answers(without) == {"pre": "2", "portal_venous": "5", "delayed": "6"}
    reason = next(item.reason for item in identify(without).missing if item.phase == "arterial")
    assert "series number is missing" in reason


NAMES = st.sampled_from(
    ["AX VIBE PRE", "AX VIBE POST", "vibe", "VIBE ART", "PORTAL VIBE", "VIBE 5 MIN", "lava", "T2 HASTE",
     "SUB", "care bolus", "DYNAMIC", "HBP", "", "延迟", "loc", "20/60/180 sec +C lava"]
)  # fmt: skip
SERIES = st.lists(
    st.tuples(NAMES, st.sampled_from([1, 30, 72, 144, 216, 288]), st.integers(1, 12)), max_size=7
)


@settings(max_examples=25, deadline=None)
@given(SERIES, st.randoms(use_true_random=False))
def test_what_always_holds(rows, random):
    series = [
        SeriesInfo("s", f"1.{n}", str(number), description=name, n_images=count)
        for n, (name, count, number) in enumerate(rows)
    ]
    found = identify(series)
    chosen = [(c.series_uid, c.volume) for c in found.phases.values() if c is not None]
    assert len(set(chosen)) == len(chosen)
    assert all(0.5 <= c.confidence <= 1.0 and c.evidence for c in found.phases.values() if c is not None)
    assert all(0 <= c.volume < c.n_volumes for c in found.phases.values() if c is not None)
    stated = {phase for phase, c in found.phases.items() if c is not None}
    assert {"pre", "arterial", "portal_venous"} <= stated | {item.phase for item in found.missing}
    accounted = {uid for uid, _ in chosen} | {item.series_uid for item in found.excluded}
    assert accounted == {s.series_uid for s in series}
    mixed = list(series)
    random.shuffle(mixed)
    assert identify(mixed).to_dict() == found.to_dict()


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["AX T2 FS", "SUB", "DWI b500", "cor vibe", "pelvis vibe"]), st.integers(20, 60))
def test_a_series_that_is_none_changes_nothing(name, number):
    series = study(*DYNAMIC)
    other = SeriesInfo("s", "9.9", str(number), description=name, n_images=50)
    assert answers([*series, other]) == answers(series)


def volume_series(levels, numbers, names=None, times=None, shape=(60, 48, 12)):
    """A body with vessel and liver whose signal is given by volume: (vessel, liver)."""
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    affine = np.diag([6.0, 6.0, 8.0, 1.0])
    series = []
    for n, ((vessel, liver), number) in enumerate(zip(levels, numbers)):
        signal = np.where(x**2 + y**2 < 0.85, 200.0, 0.0)
        signal[(x - 0.3) ** 2 + y**2 < 0.15] = liver
        signal[(x + 0.1) ** 2 + (y + 0.4) ** 2 < 0.012] = vessel
        noise = np.random.default_rng(n).normal(0, 4.0, shape)
        image = Volume(np.abs(signal + noise).astype(np.float32), affine)
        info = VolumeInfo(
            0, shape[2], time_s=None if times is None else times[n], load=lambda image=image: image,
            grid=Grid(shape, (6.0, 6.0, 8.0), (0.0, 0.0, 1.0)),
        )  # fmt: skip
        name = "series" if names is None else names[n]
        series.append(SeriesInfo("s", f"1.{n}", str(number), name, n_images=shape[2], volumes=(info,)))
    return series


EXTRACELLULAR = [(200.0, 300.0), (1300.0, 350.0), (900.0, 600.0), (700.0, 500.0)]


def test_signal_decides_where_names_and_numbers_do_not():
    found = identify(volume_series(EXTRACELLULAR, (7, 3, 9, 1))).phases
    assert {phase: c.series_number for phase, c in found.items() if c} == {
        "pre": "7", "arterial": "3", "portal_venous": "9", "delayed": "1"
    }  # fmt: skip


def test_signal_overrules_a_wrong_name_and_says_so():
    names = ["vibe art", "vibe pre", "vibe portal", "vibe delayed"]
    found = identify(volume_series(EXTRACELLULAR, (1, 2, 3, 4), names)).phases
    assert found["pre"].series_number == "1"
    assert any("overrules" in text for text in found["pre"].evidence)


def test_pixels_are_left_alone_on_request():
    series = volume_series(EXTRACELLULAR, (7, 3, 9, 1))

    def refuse() -> Volume:
        raise AssertionError("read")

    blind = [replace(s, volumes=(replace(s.volumes[0], load=refuse),)) for s in series]
    found = identify(blind, use_pixels=False).phases
    # by number, where the signal says 7
    assert found["pre"].series_number == "1"
    assert not any("enhance" in text for text in found["pre"].evidence)


def test_a_subtraction_of_volumes_is_recognised_by_its_pixels():
    series = volume_series(EXTRACELLULAR, (7, 3, 9, 1))
    pre, late = (series[n].volumes[0].load() for n in (0, 2))
    difference = Volume(np.maximum(late.array - pre.array, 0.0), pre.affine)
    info = replace(series[0].volumes[0], load=lambda: difference)
    decoy = replace(series[0], series_uid="1.9", series_number="5", volumes=(info,))
    assert "difference" in reasons([*series, decoy])["5"]


def in_one(series, number, **changes):
    """The volumes of several series in one, in that order."""
    volumes = tuple(replace(s.volumes[0], index=n, **changes) for n, s in enumerate(series))
    return replace(series[0], series_number=str(number), n_images=12 * len(volumes), volumes=volumes)


@pytest.mark.parametrize("pixels", [True, False])
def test_one_time_for_all_volumes_of_a_series_is_that_of_its_first(pixels):
    *dynamic, late = volume_series(
        [*EXTRACELLULAR, (400.0, 900.0)], range(1, 6), times=[36000.0] * 4 + [37300.0]
    )
    found = identify([in_one(dynamic, 1), late], use_pixels=pixels).phases
    assert (found["pre"].series_number, found["pre"].volume) == ("1", 0)
    assert (found["arterial"].series_number, found["arterial"].volume) == ("1", 1)
    if pixels:
        assert [found[p].volume for p in ("portal_venous", "delayed")] == [2, 3]


@pytest.mark.parametrize(("n_volumes", "step_s"), [(30, 6.0), (20, 4.0), (12, 6.0)])
def test_a_series_that_follows_the_bolus_is_not_all_unenhanced_where_it_is_not_looked_at(n_volumes, step_s):
    times = [36000.0 + step_s * n for n in range(n_volumes)]
    (late,) = volume_series(EXTRACELLULAR[3:], (9,), times=[36320.0])
    dynamic = in_one(volume_series(EXTRACELLULAR[:1] * n_volumes, range(n_volumes), times=times), 5)
    found = identify([dynamic, replace(late, series_uid="1.99")], use_pixels=False).phases
    stated = {phase: (c.series_number, c.volume) for phase, c in found.items() if c}
    assert stated.pop("delayed") == ("9", 0)
    # injected after 20 s
    assert set(stated) <= {"pre"}
    assert stated.get("pre", ("5", 0))[1] * step_s <= 20.0


@pytest.mark.parametrize("fat", [0, 1])
def test_fat_beside_water_in_a_series_does_not_take_its_time(fat):
    water = volume_series(EXTRACELLULAR, (8, 3, 6, 4), times=[36000.0, 36120.0, 36165.0, 36300.0])
    both = []
    for series in water:
        info = replace(series.volumes[0], image_type=("ORIGINAL", "PRIMARY", "W"))
        kinds = [info, replace(info, image_type=("ORIGINAL", "PRIMARY", "F"))][:: -1 if fat == 0 else 1]
        volumes = tuple(replace(kind, index=n) for n, kind in enumerate(kinds))
        both.append(replace(series, n_images=24, volumes=volumes))
    found = identify(both, use_pixels=False).phases
    assert {phase: (c.series_number, c.volume) for phase, c in found.items() if c} == {
        phase: (number, 1 - fat)
        for phase, number in zip(("pre", "arterial", "portal_venous", "delayed"), ("8", "3", "6", "4"))
    }


def test_a_list_of_times_counts_the_volumes_of_water():
    levels = [level for level in EXTRACELLULAR[1:] for _ in range(2)]
    series = in_one(volume_series(levels, range(6)), 2)
    volumes = [
        replace(v, image_type=("ORIGINAL", "PRIMARY", "FW"[n % 2])) for n, v in enumerate(series.volumes)
    ]
    (pre,) = volume_series(EXTRACELLULAR[:1], (1,), ["LAVA pre"])
    dynamic = replace(series, series_uid="1.9", description="LAVA +C 20,35,65", volumes=tuple(volumes))
    found = identify([pre, dynamic], use_pixels=False).phases
    assert [found[phase].volume for phase in ("arterial", "arterial_late", "portal_venous")] == [1, 3, 5]


def test_times_decide_before_numbers():
    series = volume_series(EXTRACELLULAR, (9, 8, 7, 6), times=[36000.0, 36100.0, 36145.0, 36260.0])
    found = identify(series, use_pixels=False).phases
    assert [found[p].series_number for p in ("pre", "arterial", "portal_venous")] == ["9", "8", "7"]


OTHERS = [("localizer", 15), ("t2_haste", 30), ("t1_in_opp", 60), ("t2_fs_tra", 30)]


@pytest.mark.parametrize("name", ["Dyn {}", "Dynamic {}", "t1_vibe_ph {}", "dyn{}"])
def test_numbers_count_from_the_unenhanced_volume_where_nothing_else_can_be_it(name):
    numbered = [(name.format(n), 72) for n in range(1, 5)]
    expected = {"pre": "5", "arterial": "6", "portal_venous": "7", "delayed": "8"}
    assert answers(study(*OTHERS, *numbered)) == expected
    # beside an unenhanced series, and with a word for contrast, they count from the first enhanced one
    enhanced = {"arterial": "6", "portal_venous": "7", "delayed": "8"}
    found = answers(study(*OTHERS, ("vibe pre", 72), *numbered[:3]))
    assert found == {"pre": "5", **enhanced}
    contrast = [(f"+C {n}", 72) for n in range(1, 5)]
    assert "pre" not in answers(study(*OTHERS, *contrast))


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("lost", [None, 1])
def test_phases_come_from_one_of_two_reconstructions(first, lost):
    times = [36000.0, 36075.0, 36115.0, 36240.0]
    families = []
    for k, (kind, suffix) in enumerate(((("M", "NORM", "DIS3D"), ""), (("M", "ND"), "_ND"))):
        numbers = [1 + 2 * n + (k != first) for n in range(4)]
        names = [f"t1_vibe_{word}{suffix}" for word in ("pre", "art", "pv", "delayed")]
        levels = [(vessel * (1 + 0.2 * k), liver * (1 + 0.2 * k)) for vessel, liver in EXTRACELLULAR]
        series = volume_series(levels, numbers, names, times)
        families.append(
            [replace(s, series_uid=f"{5 - k - n}.{n}.{k}", volumes=(replace(s.volumes[0], image_type=kind),))
             for n, s in enumerate(series)]
        )  # fmt: skip
    corrected, other = families
    if lost is not None:  # the family of more phases goes before the corrected one
        del corrected[lost:]
    found = identify([*corrected, *other]).phases
    uids = [found[phase].series_uid for phase in ("pre", "arterial", "portal_venous", "delayed")]
    assert uids == [s.series_uid for s in (corrected if lost is None else other)]


AT_S = (36000.0, 36075.0, 36115.0, 36240.0)
WORDS = ("pre", "art", "pv", "delayed")


def copied(first, numbers, name="t1_vibe_{}", gain=1.2):
    """A dynamic study, and every acquisition again in another series of the same image type: by UID."""
    again = [(gain * vessel, gain * liver) for vessel, liver in EXTRACELLULAR]
    names = [name.format(word) for word in WORDS]
    original = volume_series(EXTRACELLULAR, first, [f"t1_vibe_{word}" for word in WORDS], AT_S)
    copies = volume_series(again, numbers, names, AT_S)
    return original, [replace(s, series_uid=f"0.{n}") for n, s in enumerate(copies)]


@pytest.mark.parametrize(
    ("first", "numbers", "name"),
    [
        pytest.param((5, 6, 7, 8), (105, 106, 107, 108), "PU:t1_vibe_{}", id="a word more"),
        pytest.param((5, 6, 7, 8), (105, 106, 107, 108), "t1_vibe_{}", id="the same names"),
        pytest.param((5, 7, 9, 11), (6, 8, 10, 12), "t1_vibe_{}", id="the same names, number by number"),
        pytest.param((5, 6, 7, 8), (105, 106, 107, 108), "t1_vibe", id="names that lost the phase"),
    ],
)
@pytest.mark.parametrize("pixels", [True, False])
def test_phases_come_from_one_of_two_series_of_each_acquisition(first, numbers, name, pixels):
    original, copies = copied(first, numbers, name)
    found = identify([*copies, *original], use_pixels=pixels)
    expected = ["pre", "arterial", "portal_venous", "delayed"]
    assert [found.phases[p].series_uid for p in expected] == [s.series_uid for s in original]
    aside = {item.series_uid: item.reason for item in found.excluded}
    assert all("another reconstruction" in aside[s.series_uid] for s in copies)
    # without the copies they are as sure
    alone = identify(original, use_pixels=pixels).phases
    assert [found.phases[p].confidence for p in expected] == [alone[p].confidence for p in expected]


@pytest.mark.parametrize("lost", range(4))
def test_of_two_series_of_each_acquisition_those_are_taken_that_are_all_there(lost):
    original, copies = copied((5, 6, 7, 8), (105, 106, 107, 108), "PU:t1_vibe_{}")
    del original[lost]
    found = identify([*original, *copies]).phases
    assert [found[p].series_uid for p in ("pre", "arterial", "portal_venous", "delayed")] == [
        s.series_uid for s in copies
    ]


@pytest.mark.parametrize("name", ["t1_vibe_{}", "t1_vibe"])
def test_parts_of_a_series_that_keep_the_time_of_its_beginning_are_not_copies(name):
    times = (36000.0, 36075.0, 36075.0, 36075.0)
    series = volume_series(EXTRACELLULAR, (5, 6, 7, 8), [name.format(w) for w in WORDS], times)
    assert answers(series) == {"pre": "5", "arterial": "6", "portal_venous": "7", "delayed": "8"}


def broken(series):
    """The series without one of its slices, so that they make no volume."""

    def refuse() -> Volume:
        raise UserError("1 slices are missing")

    (info,) = series.volumes
    info = replace(info, n_slices=info.n_slices - 1, grid=None, load=refuse)
    return replace(series, volumes=(info,))


@pytest.mark.parametrize("places", [(0,), (1,), (2,), (3,), (0, 1, 2, 3)])
@pytest.mark.parametrize("copy_all", [True, False])
def test_a_whole_copy_goes_before_a_volume_that_lacks_a_slice(places, copy_all):
    original, copies = copied((5, 6, 7, 8), (105, 106, 107, 108), gain=1.0)
    study = [broken(s) if n in places else s for n, s in enumerate(original)]
    found = identify([*study, *(s for n, s in enumerate(copies) if copy_all or n in places)])
    without = {original[n].series_uid for n in places}
    taken = [found.phases[p].series_uid for p in ("pre", "arterial", "portal_venous", "delayed")]
    assert not without & {*taken}
    assert all(found.phases[p].confidence > 0.9 for p in ("pre", "arterial", "portal_venous", "delayed"))
    aside = {item.series_uid: item.reason for item in found.excluded}
    assert all("make no volume" in aside[uid] for uid in without)


def test_a_volume_that_lacks_a_slice_keeps_its_place_where_there_is_no_other():
    original, _ = copied((5, 6, 7, 8), (105, 106, 107, 108))
    original[2] = broken(original[2])
    assert answers(original)["portal_venous"] == "7"
    # nor is it another acquisition's copy because a console gave both one time
    times = [36000.0, 36075.0, 36075.0, 36240.0]
    names = [f"t1_vibe_{word}" for word in WORDS]
    timed = volume_series(EXTRACELLULAR, (5, 6, 7, 8), names, times)
    timed[1] = broken(timed[1])
    assert answers(timed) == {"pre": "5", "arterial": "6", "portal_venous": "7", "delayed": "8"}


def test_one_time_for_all_series_is_that_of_none():
    series = volume_series(EXTRACELLULAR, (1, 2, 3, 4), times=[0.0] * 4)
    kinds = [
        replace(s, volumes=(replace(s.volumes[0], image_type=(f"K{n}",)),)) for n, s in enumerate(series)
    ]
    assert answers(kinds) == answers(series)


def test_t2_and_coronal_volumes_are_set_aside_by_their_attributes():
    first = volume_series(EXTRACELLULAR, (1, 2, 3, 4))[0]
    long_echo = replace(first, volumes=(replace(first.volumes[0], echo_time_ms=90.0),))
    grid = replace(first.volumes[0].grid, normal=(0.0, 1.0, 0.0))
    coronal = replace(
        first, series_uid="1.8", series_number="8", volumes=(replace(first.volumes[0], grid=grid),)
    )
    found = {item.series_number: item.reason for item in identify([long_echo, coronal]).excluded}
    assert "T2" in found["1"]
    assert "coronal" in found["8"]


# ---------------------------------------------------------------------- what is taken of several
VIBE = ("vibe", 72)


def test_of_two_unenhanced_volumes_the_one_nearest_to_the_injection_is_taken():
    names = ("vibe pre", "vibe pre", "vibe art", "vibe portal", "vibe 3 min")
    assert answers(study(*((name, 72) for name in names)))["pre"] == "2"
    # also where the place of the bolus scan alone tells which are unenhanced
    repeated = study(("HASTE", 30), VIBE, VIBE, ("care bolus", 20), VIBE, VIBE, VIBE)
    assert answers(repeated) == {"pre": "3", "arterial": "5", "portal_venous": "6", "delayed": "7"}


@pytest.mark.parametrize(
    ("late", "taken"),
    [
        (("vibe 3 min", "vibe 5 min"), "4"),
        (("vibe 5 min", "vibe 3 min"), "5"),
        (("vibe 10 min", "vibe 4 min"), "5"),
        (("vibe delayed", "vibe delayed"), "4"),
    ],
)
def test_of_two_delayed_volumes_the_one_nearest_to_three_and_a_half_minutes_is_taken(late, taken):
    names = ("vibe pre", "vibe art", "vibe portal", *late)
    assert answers(study(*((name, 72) for name in names)))["delayed"] == taken


@pytest.mark.parametrize("times", [True, False])
def test_nothing_before_the_bolus_scan_is_enhanced(times):
    series = study(("HASTE", 30), ("vibe {}", 72), ("care bolus", 20), *[VIBE] * 3, ("vibe {}", 72))
    for name in ("vibe art", "vibe portal", "vibe delayed"):
        told = [replace(s, description=s.description.replace("vibe {}", name)) for s in series]
        if times:
            told = [replace(s, time_s=36000.0 + 40.0 * n) for n, s in enumerate(told)]
        assert "2" not in {answers(told).get(p) for p in ("arterial", "portal_venous", "delayed")}


def test_numbers_in_hundreds_are_consecutive_too():
    names = [("HASTE", 30), ("THRIVE", 72), ("bolustrak", 20), *[("THRIVE", 72)] * 3, ("T2 SPAIR", 60)]
    series = [replace(s, series_number=f"{s.series_number}01") for s in study(*names)]
    dynamic = {"pre": "201", "arterial": "401", "portal_venous": "501", "delayed": "601"}
    assert answers(series) == dynamic
    del dynamic["arterial"]
    assert answers([s for s in series if s.series_number != "401"]) == dynamic


def test_the_unenhanced_volume_is_the_one_that_subtractions_take_away():
    series = study(("T2", 30), VIBE, VIBE, VIBE, VIBE, VIBE, ("SUB_S4-S3_1", 72), ("SUB_S5-S3_1", 72))
    told = {"pre": "3", "arterial": "4", "portal_venous": "5", "delayed": "6"}
    assert answers(series) == told
    assert answers(series[:6]) != told


def test_slice_wise_volumes_beside_volumetric_ones_are_none_of_the_dynamic_series():
    def repeating(series, time_ms):
        return replace(series, volumes=(replace(series.volumes[0], repetition_time_ms=time_ms),))

    dynamic = volume_series(EXTRACELLULAR, (1, 2, 3, 4))
    (late,) = volume_series([(500.0, 450.0)], (5,))
    late = repeating(replace(late, series_uid="1.9"), 150.0)
    expected = {"pre": "1", "arterial": "2", "portal_venous": "3", "delayed": "4"}
    volumetric = [*(repeating(s, 4.0) for s in dynamic), late]
    assert answers(volumetric) == expected
    assert "repetition time" in reasons(volumetric)["5"]
    # a scanner that acquires all of them slice by slice has a dynamic series too
    assert answers([repeating(s, 150.0) for s in dynamic]) == expected
