"""Texts without identity: what a study's attributes name a person by is taken out of what an import says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from mtinet.dicom.study import DicomStudy
from mtinet.results import Finding

REMOVED = "[removed]"
_SHORTEST = 3
"""Letters from which an id or a part of a name is looked for: a shorter one would hit ordinary words."""


class Scrubber:
    """Replaces ids by their pseudonyms, and names, dates and numbers of a study by ``[removed]``.

    Parameters
    ----------
    pseudonyms : mapping of str to str
        Replacement by original id.
    secrets : iterable of str
        What is removed without replacement.
    """

    def __init__(self, pseudonyms: Mapping[str, str], secrets: Iterable[str] = ()) -> None:
        words = {**dict.fromkeys(secrets, REMOVED), **pseudonyms}
        self._words = {w.lower(): r for w, r in words.items() if len(w) >= _SHORTEST and w != r}
        longest_first = sorted(self._words, key=len, reverse=True)
        alternatives = "|".join(re.escape(word) for word in longest_first)
        # an id that is part of a longer number or word is another thing
        self._pattern = (
            re.compile(rf"(?<![^\W_])(?:{alternatives})(?![^\W_])", re.IGNORECASE) if alternatives else None
        )

    @classmethod
    def of(cls, study: DicomStudy, study_id: str, patient_id: str, series: Mapping[str, str]) -> Scrubber:
        """For everything that is said about one study.

        Parameters
        ----------
        study : DicomStudy
        study_id, patient_id : str
            Its pseudonyms.
        series : mapping of str to str
            Pseudonym by SeriesInstanceUID.
        """
        date = study.study_date
        secrets = {study.accession, study.institution, date, *name_parts(study.patient_name)}
        if len(date) == 8:
            year, month, day = date[:4], date[4:6], date[6:]
            secrets |= {f"{year}-{month}-{day}", f"{day}.{month}.{year}", f"{month}/{day}/{year}"}
        secrets |= {uid for s in study.series for v in s.volumes for uid in v.instance_uids}
        secrets |= {s.frame_of_reference_uid for s in study.series}
        return cls({study.study_uid: study_id, study.patient_id: patient_id, **series}, secrets)

    def text(self, text: str) -> str:
        """``text`` without identity."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: self._words[found.group(0).lower()], text)

    def finding(self, finding: Finding, case: str) -> Finding:
        """A finding about ``case`` without identity."""
        return replace(
            finding,
            meaning=self.text(finding.meaning),
            action=self.text(finding.action),
            case=case,
        )

    def plain(self, value: Any) -> Any:
        """Every text in nested plain data without identity."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(k)): self.plain(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.plain(v) for v in value]
        return value


def name_parts(name: str) -> set[str]:
    """A person's name and its parts; DICOM parts them by ``^`` and ``=``."""
    return {name, name.replace("^", " ").strip(), *re.split(r"[\^=\s,]+", name)} - {""}
