"""Texts without identity: what a study's attributes name a person by is taken out of what an import says."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

from mtinet.dicom.headers import NOBODY, Identity
from mtinet.dicom.study import DicomStudy
from mtinet.results import Finding

REMOVED = "[removed]"
_SHORTEST = 3
"""Characters from which an id, or a piece of a double name, is looked for: a shorter one would hit ordinary numbers
and words."""

_SHORTEST_NAME = 2
"""Of a patient's name.  Two letters of somebody else are initials, and often a word of descriptions."""

_JOINED = re.compile(r"[-\u2010-\u2013'\u2018\u2019\u02bc`\u00b4]+")
"""Hyphens and apostrophes, which join the pieces of a double name."""

_IDEOGRAPHIC = re.compile(r"[\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
"""Scripts that write words without blanks between."""

_ORDINARY = frozenset((
    "adc", "art", "ax", "axial", "bh", "ce", "cor", "del", "dixon", "dwi", "dyn", "dynamic", "fat", "fl",
    "flash", "fs", "gd", "gre", "haste", "in", "inj", "iv", "km", "late", "lava", "liver", "min", "mip",
    "mr", "nat", "native", "op", "opp", "out", "pd", "ph", "phase", "post", "pre", "pv", "sag", "sat", "se",
    "sub", "t1", "t2", "tfe", "tra", "trig", "tse", "ven", "venous", "vibe", "water",
    "mri", "mrt", "none", "not", "unknown",
))  # fmt: skip
"""Words of series' descriptions, and those written where a name is not known: a part of a name that is one is taken
out beside another part only."""

_MONTHS = (
    "jan|gen|ene", "f[eé][bv]", "m[aä]r|maer|mrz", "a[pvb]r", "ma[iyg]", "jun|juin|giu",
    "jul|juil|lug", "aug|ago|ao[uû]", "sep|set", "o[kcu]t", "nov|noi", "de[csz]|d[eé]c|dic",
)  # fmt: skip
"""How the months' names begin in the languages of descriptions: English, German, French, Spanish, Italian and
Portuguese."""


class Scrubber:
    """Replaces ids by their pseudonyms, and names, dates and numbers of a study by ``[removed]``.

    Parameters
    ----------
    pseudonyms : mapping of str to str
        Replacement by original id.
    secrets : iterable of str
        What is removed without replacement.
    identity : Identity
        Persons, ids and dates as DICOM writes them.
    """

    def __init__(
        self, pseudonyms: Mapping[str, str], secrets: Iterable[str] = (), identity: Identity = NOBODY
    ) -> None:
        numeric = {spelling for date in identity.dates for spelling in _written(date)}
        secrets = {*secrets, *identity.ids, *numeric}
        words = {**dict.fromkeys(secrets, REMOVED), **pseudonyms}
        self._words = {w.lower(): r for w, r in words.items() if len(w) >= _SHORTEST and w != r}
        wanted = {word: re.escape(word) for word in self._words}
        for name in identity.staff:
            wanted |= _patterns(name, _SHORTEST)
        for name in identity.names:
            wanted |= _patterns(name, _SHORTEST_NAME)
        for date in identity.dates:
            wanted |= _in_words(date)
        # an id that is part of a longer number or word is another thing
        alternatives = [
            pattern if _IDEOGRAPHIC.search(word) else rf"(?<![^\W_]){pattern}(?![^\W_])"
            for word, pattern in sorted(wanted.items(), key=lambda item: len(item[0]), reverse=True)
        ]
        self._pattern = re.compile("|".join(alternatives), re.IGNORECASE) if alternatives else None

    @classmethod
    def of(
        cls,
        study: DicomStudy,
        study_id: str,
        patient_id: str,
        series: Mapping[str, str],
        others: Iterable[str] = (),
    ) -> Scrubber:
        """For everything that is said about one study.

        Parameters
        ----------
        study : DicomStudy
        study_id, patient_id : str
            Its pseudonyms.
        series : mapping of str to str
            Pseudonym by SeriesInstanceUID.
        others : iterable of str
            Names of other patients that its texts hold (:func:`names_of_others`).
        """
        secrets = {uid for s in study.series for v in s.volumes for uid in v.instance_uids}
        secrets |= {s.frame_of_reference_uid for s in study.series}
        pseudonyms = {study.study_uid: study_id, study.patient_id: patient_id, **series}
        # a scanner's number of a study may be that of a series too, which is no secret and has to be told
        numbers = {s.info.series_number for s in study.series}
        ids = tuple(text for text in study.identity.ids if text not in numbers)
        staff = (*study.identity.staff, *others)
        return cls(pseudonyms, secrets, replace(study.identity, ids=ids, staff=staff))

    def text(self, text: str) -> str:
        """``text`` without identity."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: self._words.get(found.group(0).lower(), REMOVED), text)

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


def names_of_others(
    studies: Sequence[DicomStudy], texts: Sequence[Iterable[str]] = ()
) -> list[tuple[str, ...]]:
    """For each study, names of the source's other patients that may be meant in what it says: a slip at the console.

    They are looked up by their pieces, so that a study is searched for a few names, not for those of a whole archive
    (which would take long, and take ordinary words out of sentences besides).

    Parameters
    ----------
    studies : sequence of DicomStudy
        All of a source.
    texts : sequence of iterable of str
        Further texts of each study, such as names of masks; empty = there are none.
    """
    called: dict[str, dict[str, None]] = {}
    for name in dict.fromkeys(name for study in studies for name in study.identity.names):
        for piece in _pieces(name):
            called.setdefault(piece, {})[name] = None
    ideographic = [piece for piece in called if _IDEOGRAPHIC.search(piece)]
    found = []
    for study, more in zip(studies, texts or [()] * len(studies), strict=True):
        text = "\n".join(dict.fromkeys((*_told(study), *more))).lower()
        pieces = [word for word in dict.fromkeys(re.findall(r"[^\W\d_]+", text)) if word in called]
        if _IDEOGRAPHIC.search(text):
            pieces += [piece for piece in ideographic if piece in text]
        names = dict.fromkeys(name for piece in pieces for name in called[piece])
        found.append(tuple(name for name in names if name not in study.identity.names))
    return found


def _told(study: DicomStudy) -> Iterable[str]:
    """What users and consoles write into a study."""
    for series in study.series:
        info = series.info
        yield from (info.description, info.protocol, info.sequence, info.study_description)
        yield from (info.series_number, info.body_part, info.agent)


def _pieces(name: str) -> set[str]:
    """What may stand in a text for a name: its parts and their pieces in every spelling, in small letters."""
    parts = [part for part in re.split(r"[\^\s,.=]+", name) if part]
    words = {word for part in parts for word in (_JOINED.sub("", part), *re.findall(r"[^\W\d_]+", part))}
    return {
        spelled for word in words if len(word) > 1 or _IDEOGRAPHIC.search(word) for spelled in spellings(word)
    }


def _written(date: str) -> set[str]:
    """The ways to write a DICOM date in numbers."""
    if len(date) != 8:
        return {date}
    year, month, day = date[:4], date[4:6], date[6:]
    orders = [
        order
        for d in {day, day.lstrip("0")}
        for m in {month, month.lstrip("0")}
        for y in (year, year[2:])
        for order in ((d, m, y), (m, d, y), (y, m, d))
    ]
    return {date, f"{day}{month}{year}", *(sign.join(order) for sign in "-./" for order in orders)}


def _in_words(date: str) -> dict[str, str]:
    """Regular expressions for a DICOM date whose month is written by its name."""
    found = re.fullmatch(r"(\d\d)(\d\d)(0[1-9]|1[0-2])(\d\d)", date)
    if found is None:
        return {}
    century, of_century, number, day = found.groups()
    day, month = f"0?{int(day)}(?:st|nd|rd|th)?", rf"(?:{_MONTHS[int(number) - 1]})[^\W\d_]*"
    year = f"(?:{century})?{of_century}"
    orders = {"dmy": (day, month, year), "mdy": (month, day, year), "ymd": (year, month, day)}
    return {f"{date} {name}": r"[\s.,/_-]*(?:de\s+)?".join(order) for name, order in orders.items()}


def _patterns(name: str, shortest: int) -> dict[str, str]:
    """Regular expressions for a person's name, by what they look for.

    DICOM writes ``=`` between a name's scripts and ``^`` between its parts.  Of a double name (``Al-Hassan``,
    ``O'Brien``) each piece is looked for, and the whole with any or no sign between them.  Words of descriptions,
    parts that have fewer letters than ``shortest`` and short pieces of double names are a name beside another part
    only.
    """
    found: dict[str, str] = {}
    for script in name.split("="):
        parts = [part for part in re.split(r"[\^\s,.]+", script) if part]
        pieces = {part: [piece for piece in _JOINED.split(part) if piece] for part in parts}
        spelled = {part: r"[\W_]*".join(map(_spellings, pieces[part])) for part in parts if pieces[part]}
        double = {piece: _spellings(piece) for part in parts for piece in pieces[part] if piece not in parts}
        spelled |= double
        for one, other in permutations(spelled, 2):
            between = r"[\W_]*" if _IDEOGRAPHIC.search(one + other) else r"[\W_]+"
            found[f"{one} {other}"] = spelled[one] + between + spelled[other]
        for part in spelled:
            needed = _SHORTEST if part in double else shortest
            if len(part) >= needed and _JOINED.sub("", part).lower() not in _ORDINARY:
                found[part] = spelled[part]
    return found


def _spellings(part: str) -> str:
    """Regular expression for a part of a name."""
    return f"(?:{'|'.join(map(re.escape, spellings(part)))})"


def spellings(part: str) -> tuple[str, ...]:
    """A part of a name in small letters, also without its accents and as German keyboards write it."""
    lower = part.lower()
    plain = "".join(c for c in unicodedata.normalize("NFKD", lower) if not unicodedata.combining(c))
    german = "".join({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"}.get(c, c) for c in lower)
    return tuple(dict.fromkeys((lower, plain, german)))
