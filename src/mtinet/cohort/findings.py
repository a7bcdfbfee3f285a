"""What reading and checking a cohort's tables collect."""

from __future__ import annotations

from mtinet.results import Finding, Severity


class Findings(list[Finding]):
    """Findings on a cohort, in the order in which they were made."""

    def add(self, id: str, severity: Severity, meaning: str, action: str, case: str = "") -> None:
        """Note a finding; ``case`` is the study that it is about, empty for the whole cohort."""
        self.append(Finding(id, "cohort", severity, meaning, action, case))
