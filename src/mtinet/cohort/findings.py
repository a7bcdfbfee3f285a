"""What reading and checking a cohort's tables and images collect."""

from __future__ import annotations

from mtinet.results import Finding, Severity


class Findings(list[Finding]):
    """Findings on a cohort, in the order in which they were made.

    Parameters
    ----------
    case : str
        The study that they are about, unless :meth:`add` names another; empty for the whole cohort.
    """

    def __init__(self, case: str = "") -> None:
        super().__init__()
        self._case = case

    def add(
        self,
        id: str,
        severity: Severity,
        meaning: str,
        action: str,
        case: str = "",
        value: float | None = None,
        threshold: float | None = None,
    ) -> None:
        """Note a finding; ``value`` and ``threshold`` are the measured number behind it and its limit."""
        self.append(
            Finding(
                id, "cohort", severity, meaning, action, case or self._case, value=value, threshold=threshold
            )
        )
