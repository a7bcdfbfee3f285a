"""A patient id is one person's, or it is said."""

import pytest

from mtinet.dicom.study import DicomStudy
from mtinet.workflows.imports.persons import person_findings


def found(*studies: DicomStudy):
    ids = [f"study-{n}" for n, _ in enumerate(studies)]
    called = [
        f"patient {len(s.patient_id)}{s.patient_id[-1:]}" if s.patient_id.strip() else id
        for s, id in zip(studies, ids, strict=True)
    ]
    return person_findings(list(zip(studies, ids, called, strict=True)))


def called(*names: str):
    return found(*(DicomStudy(str(n), "4711", patient_name=name) for n, name in enumerate(names)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Kowalska^Anna", "KOWALSKA^ANNA^^^"),
        ("Müller^Jörg", "Mueller Jorg"),
        ("Müller^Jörg", "MULLER^J"),
        ("Müller^Jörg", "Mu\u0308ller^J"),
        ("Kowalska^Anna", "Anna^Kowalska"),
        ("Kowalska^Anna", "Kowalska-Nowak^Anna"),
        ("Kowalska^Anna", ""),
        ("Kowalska^Anna", "^Ewa"),
        ("Kowalska^Anna", "ANONYMOUS"),
        ("Yamada^Tarou=山田^太郎", "山田^太郎"),
        ("Yamada^Tarou", "山田^太郎"),
    ],
)
def test_another_spelling_is_no_other_person(one, other):
    assert called(one, other) == []
    assert called(other, one) == []


@pytest.mark.parametrize(("one", "other"), [("Kowalska^Anna", "Nowak^Piotr"), ("山田^太郎", "吴^丽")])
def test_another_name_is_told_by_the_studies_and_without_the_names(one, other):
    (finding,) = called(one, one, other)
    assert (finding.id, finding.severity) == ("patient-of-several-persons", "warning")
    assert "3 studies" in finding.meaning
    assert "patient's name: study-0, study-1, study-2" in finding.meaning
    assert "PatientID" in finding.action
    assert not any(name in str(finding) for name in (*one.split("^"), *other.split("^"), "4711"))


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ([{"birth_date": "19560312"}, {"birth_date": "19640707"}], "date of birth"),
        ([{"birth_date": "19560312"}, {"birth_date": "1956.03.12"}], ""),
        ([{"birth_date": "19560312"}, {"birth_date": ""}, {"birth_date": "1956"}], ""),
        ([{"sex": "F"}, {"sex": "M"}], "sex"),
        ([{"sex": "F"}, {"sex": "f "}, {"sex": ""}, {"sex": "O"}], ""),
    ],
)
def test_day_of_birth_and_sex_count_where_both_are_known(attributes, told):
    said = found(*(DicomStudy(str(n), "4711", **given) for n, given in enumerate(attributes)))
    assert [finding.meaning for finding in said if told in finding.meaning] == [f.meaning for f in said]
    assert bool(said) == bool(told)


def test_persons_are_compared_within_a_patient_id():
    assert found(DicomStudy("1", "4711", sex="F"), DicomStudy("2", "0815", sex="M")) == []


def test_studies_without_patient_id_are_counted_unless_there_is_one_study():
    known, unknown = DicomStudy("1", "4711"), DicomStudy("2", " ")
    (finding,) = found(known, unknown, unknown)
    assert (finding.id, finding.severity) == ("no-patient-id", "warning")
    assert "2 of 3 studies have no patient id" in finding.meaning
    assert "study-1, study-2" in finding.meaning
    assert found(unknown) == []
