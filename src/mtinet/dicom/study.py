"""Studies as they come out of DICOM files: what is known of them, and where each volume came from."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtinet.dicom.contained import UnreadableError, shared_reader
from mtinet.dicom.contrast import dose_mmol_kg
from mtinet.dicom.headers import DICOMDIR, MASK_CLASSES, NOBODY, Identity
from mtinet.dicom.sources import SourceFile, find_files, unreadable
from mtinet.dicom.volumes import DicomSeries, DicomVolume, Source, build_series
from mtinet.errors import UnusableError
from mtinet.results import Finding

__all__ = ["DicomSeries", "DicomStudy", "DicomVolume", "no_study", "read_studies", "study_keys"]


@dataclass(frozen=True)
class DicomStudy:
    """One study of one patient.

    Attributes
    ----------
    study_uid, patient_id : str
    patient_name : str
        For the mapping file only; never written elsewhere.
    birth_date, sex : str
        Compared with those of the patient's other studies; never written.
    study_date : str
        ``YYYYMMDD``.
    accession : str
    agent : str
        ContrastBolusAgent as written in the first series that names one.
    dose_mmol_kg : float or None
    series : tuple of DicomSeries
    masks : tuple of SourceFile
        SEG and RTSTRUCT files of this study.
    findings : tuple of Finding
        Stage ``import``.
    profile_tags : mapping of int to int
        Number of files by attribute that de-identification removes or replaces.
    identity : Identity
        Of all its files, which need not tell the same.
    """

    study_uid: str
    patient_id: str
    patient_name: str = ""
    study_date: str = ""
    accession: str = ""
    agent: str = ""
    dose_mmol_kg: float | None = None
    series: tuple[DicomSeries, ...] = ()
    masks: tuple[SourceFile, ...] = ()
    findings: tuple[Finding, ...] = ()
    profile_tags: Mapping[int, int] = field(default_factory=dict)
    identity: Identity = NOBODY
    birth_date: str = ""
    sex: str = ""


def read_studies(
    source: Path, on_progress: Callable[[int, int], None] | None = None
) -> tuple[list[DicomStudy], list[Finding]]:
    """Read the headers of everything in a folder, a zip or a file; voxels are left for ``info.load``.

    Parameters
    ----------
    source : Path
    on_progress : callable, optional
        Called as ``on_progress(done, total)`` with numbers of files.

    Returns
    -------
    list of DicomStudy
        Sorted by patient, date and UID.
    list of Finding
        About files that belong to no study: damaged, refused, listed by a DICOMDIR but absent.

    Raises
    ------
    UnusableError
        ``source`` does not exist.
    """
    files, findings = find_files(source)
    sources: list[Source] = []
    directories: list[Source] = []
    reader = shared_reader()
    for done, file in enumerate(files, 1):
        try:
            header = reader.header(file)
        except UnreadableError as error:
            if file.claims or error.kind != "not-dicom":
                findings.append(unreadable(file.name, error.why, "Export or copy it again."))
        else:
            (directories if header.sop_class == DICOMDIR else sources).append((file, header))
        if on_progress is not None:
            on_progress(done, len(files))
    findings += _absent(directories, files)
    by_study: dict[tuple[str, str], list[Source]] = defaultdict(list)
    for one in sources:
        study = one[1].study
        by_study[study["patient_id"], study["study_uid"]].append(one)
    studies = [_study(members) for members in by_study.values()]
    for empty in (study for study in studies if not study.series and not study.masks):
        findings += empty.findings
    studies = _name_shared_uids([study for study in studies if study.series or study.masks])
    return sorted(studies, key=lambda s: (s.patient_id, s.study_date, s.study_uid)), findings


def study_keys(studies: Sequence[DicomStudy]) -> list[str]:
    """What tells each of the studies from the others: its UID, with the patient's id where several share one."""
    uids = Counter(study.study_uid for study in studies)
    return [s.study_uid if uids[s.study_uid] == 1 else f"{s.study_uid}/{s.patient_id}" for s in studies]


def no_study(source: Path, findings: Sequence[Finding]) -> UnusableError:
    """What to raise where :func:`read_studies` gave no study: what it found instead."""
    details = "".join(f"\n- {f.case}: {f.meaning}. {f.action}" for f in findings[:10])
    more = f"\n- and {len(findings) - 10} more" if len(findings) > 10 else ""
    return UnusableError(
        f"{source} holds no DICOM study; give the folder, zip (*.zip) or file with the DICOM images{details}{more}"
    )


def _study(sources: Sequence[Source]) -> DicomStudy:
    text = sources[0][1].study
    key = text["study_uid"]
    by_series: dict[str, list[Source]] = defaultdict(list)
    masks: list[SourceFile] = []
    others = 0
    findings: list[Finding] = []
    for file, header in sources:
        if header.sop_class in MASK_CLASSES:
            masks.append(file)
        elif header.format is not None:
            by_series[header.series["series_uid"]].append((file, header))
        else:
            others += 1
    if others:
        findings.append(
            Finding(
                "not-an-image",
                "import",
                "note",
                f"{others} files hold no image (reports, for example)",
                "Nothing to do, unless an image is missed: its header is then damaged; export it again.",
                case=key,
                value=float(others),
            )
        )
    series = []
    for members in by_series.values():
        one, found = build_series(key, members)
        series.append(one)
        findings += found
    agent = next((h.series["agent"] for _, h in sources if h.series["agent"]), "")
    doses = (dose_mmol_kg(h.series["agent"] or agent, h.agent_ml, h.weight_kg) for _, h in sources)
    return DicomStudy(
        key,
        text["patient_id"],
        **{name: text[name] for name in ("patient_name", "study_date", "accession", "birth_date", "sex")},
        agent=agent,
        dose_mmol_kg=next((dose for dose in doses if dose is not None), None),
        series=tuple(sorted(series, key=_by_number)),
        masks=tuple(masks),
        findings=tuple(findings),
        profile_tags=Counter(tag for _, header in sources for tag in header.profile_tags),
        identity=Identity.union(header.identity for _, header in sources),
    )


def _by_number(series: DicomSeries) -> tuple[int, str]:
    number = series.info.series_number
    return (int(number) if number.isdecimal() else 1 << 40, series.info.series_uid)


def _name_shared_uids(studies: list[DicomStudy]) -> list[DicomStudy]:
    """Say where one study's UID is used with two patient ids; they stay apart."""
    patients: dict[str, set[str]] = defaultdict(set)
    for study in studies:
        patients[study.study_uid].add(study.patient_id)
    named = []
    for study in studies:
        if len(patients[study.study_uid]) > 1:
            finding = Finding(
                "two-patients",
                "import",
                "error",
                f"Study {study.study_uid} is filed under {len(patients[study.study_uid])} patient ids",
                "Find out whose study it is, correct the files and import them again.",
                case=study.study_uid,
            )
            study = DicomStudy(**{**study.__dict__, "findings": (*study.findings, finding)})
        named.append(study)
    return named


def _absent(directories: Sequence[Source], files: Sequence[SourceFile]) -> list[Finding]:
    """Files that a DICOMDIR lists and the source lacks.  Its names are only compared, never opened."""
    present = {file.name.upper() for file in files}
    findings = []
    for file, header in directories:
        folder = file.name[: -len(file.name.rsplit("/", 1)[-1])].upper()
        missing = [n for n in header.files if folder + n.upper() not in present]
        if missing:
            findings.append(
                Finding(
                    "dicomdir-missing-files",
                    "import",
                    "warning",
                    f"it lists {len(missing)} files that are not there: {', '.join(missing[:3])}"
                    f"{', ...' if len(missing) > 3 else ''}",
                    "Copy the medium again; what is there is read.",
                    case=file.name,
                    value=float(len(missing)),
                )
            )
    return findings
