"""Texts without identity, that still tell what phases are read from."""

import time
from dataclasses import replace

import pytest

from mtinet.dicom.headers import Identity
from mtinet.dicom.series import SeriesInfo
from mtinet.dicom.study import DicomSeries, DicomStudy
from mtinet.workflows.imports.scrubbing import Scrubber, names_of_others

STUDY = DicomStudy(
    "1.2.3",
    "4711",
    identity=Identity(("Wu^Li=吴^丽",), ids=("OLD4711", "R22"), dates=("20240131", "19600503")),
)


def called(name: str) -> DicomStudy:
    return replace(STUDY, identity=replace(STUDY.identity, names=(name,)))


def scrubbed(text: str, study: DicomStudy = STUDY) -> str:
    return Scrubber.of(study, "study-a", "patient-b", {}).text(text)


def test_every_attribute_that_names_a_person_is_taken_out():
    text = "t1 LI WU 19600503 03.05.1960 OLD4711 R22 吴丽 吴 丽 丽吴 2024-01-31 4711"
    assert scrubbed(text).replace("[removed]", "").split() == ["t1", "patient-b"]
    assert "吴丽" not in scrubbed("动脉期吴丽Gd")


@pytest.mark.parametrize(
    "written",
    [
        "03/05/1960",
        "05/03/1960",
        "03-05-1960",
        "1960/05/03",
        "1960.05.03",
        "3.5.1960",
        "03.05.60",
        "31.1.2024",
        "3 May 1960",
        "3rd May, 1960",
        "03MAY1960",
        "May 3, 1960",
        "03.Mai.60",
        "3. Mai 1960",
        "3 de mayo de 1960",
        "31 Jan 2024",
        "2024-Jan-31",
        "31 janvier 2024",
    ],
)
def test_a_day_is_known_in_every_spelling(written):
    assert scrubbed(f"vibe {written} art") == "vibe [removed] art"


@pytest.mark.parametrize("written", ["Müller", "MUELLER", "Muller", "jörg", "Joerg", "Mueller_Jorg"])
def test_a_name_is_known_without_its_umlauts(written):
    assert scrubbed(f"vibe_{written}_art", called("Müller^Jörg")) == "vibe_[removed]_art"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("Müller-Lüdenscheidt^Zoë", "Müller"),
        ("Müller-Lüdenscheidt^Zoë", "MUELLER"),
        ("Müller-Lüdenscheidt^Zoë", "Mueller_Luedenscheidt Zoe"),
        ("Schmidt-Weber^Anna", "SCHMIDT"),
        ("Schmidt-Weber^Anna", "Weber Anna"),
        ("Al-Hassan^Omar", "HASSAN"),
        ("Al-Hassan^Omar", "ALHASSAN"),
        ("Al-Hassan^Omar", "al hassan"),
        ("O'Brien^Pat", "OBRIEN"),
        ("O\u2019Brien^Pat", "O'Brien"),
        ("Kim^Min-Jun", "MINJUN"),
        ("Kim^Min-Jun", "Kim min"),
    ],
)
def test_a_double_name_is_known_by_its_pieces_and_however_they_are_joined(name, written):
    assert scrubbed(f"vibe {written} 5 min AL art", called(name)) == "vibe [removed] 5 min AL art"


def test_words_of_descriptions_are_a_name_beside_another_part_only():
    study = called("Art^Ax^X")
    assert scrubbed("t1_vibe_art_fs_ax x2", study) == "t1_vibe_art_fs_ax x2"
    assert scrubbed("t1_vibe Art Ax, X. Art", study) == "t1_vibe [removed], [removed]"


@pytest.mark.parametrize("text", ["livered Wuhan", "t1_vibe_tra_pv", "li2"])
def test_parts_of_longer_words_stay(text):
    assert scrubbed(text) == text


@pytest.mark.parametrize("text", ["3 min 60", "vibe 3 1960", "May 4, 1960", "13 May 1960", "mask 3 60"])
def test_what_is_no_day_of_the_study_stays(text):
    assert scrubbed(text) == text


def test_staff_are_known_by_names_but_not_by_initials():
    study = replace(STUDY, identity=Identity(staff=("Krause^Ute^^Dr.", "TE", "Not^Available")))
    assert scrubbed("t1 KRAUSE te 2.4, not in the files", study) == "t1 [removed] te 2.4, not in the files"


def test_a_number_of_the_study_that_is_one_of_its_series_is_told():
    series = tuple(DicomSeries(SeriesInfo("1.2.3", "1.2.3.4", series_number=n), ()) for n in ("501", "502"))
    study = DicomStudy("1.2.3", "4711", series=series, identity=Identity(ids=("501", "ST-4711")))
    assert scrubbed("series 501, ST-4711", study) == "series 501, [removed]"


def test_a_study_without_a_name_is_left_as_it_is():
    assert scrubbed("t1_vibe_art", DicomStudy("", "")) == "t1_vibe_art"


def of_source(text: str, *names: str) -> str:
    """What is told of a study with this description among studies of patients with these names."""
    series = (DicomSeries(SeriesInfo("1.2.3", "1.2.3.4", description=text), ()),)
    studies = [
        replace(STUDY, series=series),
        *(DicomStudy("", "", identity=Identity((name,))) for name in names),
    ]
    others, *rest = names_of_others(studies)
    assert not any(rest)
    return Scrubber.of(studies[0], "study-a", "patient-b", {}, others).text(
        f"its name {text!r} says before contrast"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("t1 vibe nativ Kowalska", "t1 vibe nativ [removed]"),
        ("MUELLER_Joerg art", "[removed] art"),
        ("art OBrien", "art [removed]"),
        ("T1田中太郎", "T1[removed]"),
        ("nativ Art", "nativ Art"),
        ("nativ Kowalskaya", "nativ Kowalskaya"),
    ],
)
def test_names_of_other_patients_of_the_source_are_taken_out(text, told):
    names = (
        "Kowalska^Anna",
        "Müller^Jörg",
        "O'Brien^Sean",
        "Weiss^Art",
        "Tanaka^Taro=田中^太郎",
        "Name^Before",
    )
    # a patient may be called as words of our sentences are: they stay, for the study does not say them
    assert of_source(text, *names) == f"its name {told!r} says before contrast"


def test_names_of_a_whole_archive_do_not_slow_a_study():
    names = [f"{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}{chr(97 + n // 676)}ski^Anna" for n in range(5000)]
    begin = time.perf_counter()
    assert of_source("t1 vibe ccbski", *names) == "its name 't1 vibe [removed]' says before contrast"
    assert time.perf_counter() - begin < 5.0
