"""What a user adds to studies that lack it: the contrast agent, and the liver's outline.

Signs and ratios to the liver need both.  A NIfTI folder names no agent, and DICOM files bring no liver.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mtinet.dicom.contrast import agent_kind
from mtinet.errors import UserError
from mtinet.imaging.liver import LiverCommandError, check_liver_command, run_liver_command
from mtinet.results import Finding
from mtinet.stages import stage
from mtinet.workflows.predictions.formats import LIVER_FILE
from mtinet.workflows.predictions.jobs import Case


@dataclass(frozen=True)
class Supplied:
    """What is added to studies that lack it.

    Attributes
    ----------
    agent : str
        Contrast agent of studies that name none that is known.
    liver_command : str
        Program that draws the liver where a study brings no mask of it
        (:func:`mtinet.imaging.liver.run_liver_command`).
    """

    agent: str = ""
    liver_command: str = ""

    def check(self) -> None:
        """Refuse what helps no study, before the first one.

        Raises
        ------
        UserError
            The agent is none that is known, or the command cannot work.
        """
        if self.agent and not agent_kind(self.agent):
            raise UserError(
                f"--agent {self.agent!r} is no contrast agent that is known; name its substance, such as gadobutrol or "
                "gadoxetate"
            )
        if self.liver_command:
            check_liver_command(self.liver_command)

    def decides(self) -> dict[str, str]:
        """What of it a result depends on."""
        return {name: value for name, value in vars(self).items() if value}

    def with_agent(self, case: Case) -> Case:
        """The case with the agent, where it named none that is known: headers say ``Gd`` or ``CONTRAST``."""
        if not self.agent or agent_kind(case.study.agent):
            return case
        return replace(case, study=replace(case.study, agent=self.agent))

    @contextmanager
    def added_to(self, case: Case) -> Iterator[Case]:
        """The case with what it lacked; a liver that was drawn for it is gone afterwards.

        A program that fails costs the liver, not the study: a finding says why.
        """
        case = self.with_agent(case)
        if not self.liver_command or case.study.liver_mask is not None:
            yield case
            return
        with tempfile.TemporaryDirectory(prefix="mtinet-liver-") as place:
            yield self._with_liver(case, Path(place))

    @stage("liver")
    def _with_liver(self, case: Case, place: Path) -> Case:
        study = case.study
        phase = study.reference_phase
        image = place / f"{phase}.nii.gz"
        study.image(phase).write_nifti(image)
        try:
            drawn = run_liver_command(self.liver_command, image, place / LIVER_FILE)
        except LiverCommandError as error:
            failed = Finding(
                "liver-not-segmented",
                "predict",
                "warning",
                f"the liver was not segmented: {str(error).replace(str(image), 'the study')}",
                "Mend the command and predict again; what needs the liver is not assessable until then.",
                study.study_id,
            )
            return replace(case, findings=(*case.findings, failed))
        return replace(case, study=replace(study, liver_mask=drawn), liver=drawn)


NOTHING = Supplied()
