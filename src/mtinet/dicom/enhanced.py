"""Write MR images as DICOM: one enhanced multi-frame instance a series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mtinet.dicom.exam import Exam, Series, Stack
from mtinet.dicom.write import (
    AGENTS,
    Plane,
    Scaling,
    add_scale_slope,
    agent_volume_ml,
    clock,
    common,
    decimal,
    file_meta,
    imaging_frequency_mhz,
    scalings_of,
    set_pixels,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_BREATH_HOLD_MS = 15_000.0
"""Duration of a volume as it is written (assumed)."""

_AGENT_CODES = {
    "gadobutrol": ("418351005", "Gadobutrol"),
    "gadoxetate": ("421239003", "Gadoxetate"),
}


def multiframe(exam: Exam, series: Series) -> Dataset:
    """The one instance of a series; its frames run through the times of a slice if ``slices_first``.

    Parameters
    ----------
    exam : Exam
    series : Series
        Its stacks have one matrix.

    Returns
    -------
    Dataset
        Enhanced MR Image Storage.
    """
    from pydicom.uid import EnhancedMRImageStorage

    scalings = scalings_of(exam, series)
    order = _order(series)
    ds = common(exam, series)
    ds.SOPClassUID = EnhancedMRImageStorage
    ds.SOPInstanceUID = exam.uid("instance", series.number, 0, 0)
    ds.file_meta = file_meta(ds.SOPClassUID, ds.SOPInstanceUID)
    ds.InstanceNumber = 1
    ds.ContentDate, ds.ContentTime = ds.StudyDate, clock(max(stack.time_s for stack in series.stacks) + 1.0)
    _set_image(ds, exam, series)
    _set_dimensions(ds, exam)
    ds.NumberOfFrames = len(order)
    ds.SharedFunctionalGroupsSequence = [_shared(exam, series)]
    ds.PerFrameFunctionalGroupsSequence = [
        _frame(ds.StudyDate, series.stacks[index], scalings[index], index, k) for index, k in order
    ]
    frames = [scalings[index].stored(series.stacks[index].volume.array[:, :, k]).T for index, k in order]
    set_pixels(ds, np.stack(frames))
    return ds


def frame_numbers(series: Series, phase: str) -> list[int]:
    """Numbers, from 1, of the frames that hold a phase, in the order of the volume's third axis."""
    return [n + 1 for n, (index, _) in enumerate(_order(series)) if series.stacks[index].phase == phase]


def _order(series: Series) -> list[tuple[int, int]]:
    """Stack and slice of every frame."""
    pairs = [(index, k) for index, stack in enumerate(series.stacks) for k in range(stack.volume.shape[2])]
    return sorted(pairs, key=lambda pair: (pair[1], pair[0])) if series.slices_first else pairs


def _item(**values: Any) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def _set_image(ds: Dataset, exam: Exam, series: Series) -> None:
    """Modules of the enhanced MR image that are not functional groups."""
    ds.ImageType = ["ORIGINAL", "PRIMARY", "T1", "NONE"]
    ds.PixelPresentation, ds.VolumetricProperties, ds.VolumeBasedCalculationTechnique = (
        "MONOCHROME",
        "VOLUME",
        "NONE",
    )
    ds.ComplexImageComponent, ds.AcquisitionContrast = "MAGNITUDE", "T1"
    start_s = min(stack.time_s for stack in series.stacks)
    ds.AcquisitionNumber = 1
    ds.AcquisitionDateTime = ds.StudyDate + clock(start_s)
    ds.AcquisitionDuration = max(stack.time_s for stack in series.stacks) - start_s
    ds.ContentQualification, ds.ApplicableSafetyStandardAgency = "RESEARCH", "IEC"
    ds.MagneticFieldStrength, ds.ResonantNucleus = exam.field_T, "1H"
    ds.KSpaceFiltering = "NONE"
    ds.PresentationLUTShape, ds.BurnedInAnnotation, ds.LossyImageCompression = "IDENTITY", "NO", "00"
    ds.AcquisitionContextSequence = []
    ds.PulseSequenceName, ds.MRAcquisitionType, ds.EchoPulseSequence = series.sequence, "3D", "GRADIENT"
    ds.MultiPlanarExcitation, ds.PhaseContrast = "NO", "NO"
    ds.TimeOfFlightContrast, ds.SteadyStatePulseSequence, ds.EchoPlanarPulseSequence = "NO", "NONE", "NO"
    ds.SaturationRecovery, ds.SpectrallySelectedSuppression = "NO", "FAT"
    ds.OversamplingPhase, ds.GeometryOfKSpaceTraversal = "NONE", "RECTILINEAR"
    ds.RectilinearPhaseEncodeReordering, ds.SegmentedKSpaceTraversal = "LINEAR", "PARTIAL"
    ds.CoverageOfKSpace, ds.NumberOfKSpaceTrajectories = "FULL", 1
    if series.contrast:
        _set_agent(ds, exam)


def _set_agent(ds: Dataset, exam: Exam) -> None:
    """The agent, and when it was given."""
    code, meaning = _AGENT_CODES.get(exam.agent, ("408739003", "Contrast agent"))
    agent = _code(code, "SCT", meaning)
    agent.ContrastBolusAgentNumber = 1
    agent.ContrastBolusAdministrationRouteSequence = [_code("47625008", "SCT", "Intravenous route")]
    agent.ContrastBolusIngredientCodeSequence = [_code("16958000", "SCT", "Gadolinium")]
    volume = agent_volume_ml(exam)
    agent.ContrastBolusVolume = None if volume is None else decimal(volume)
    agent.ContrastBolusIngredientConcentration = (
        decimal(AGENTS[exam.agent][2]) if volume is not None else None
    )
    agent.ContrastAdministrationProfileSequence = [
        _item(ContrastBolusVolume=agent.ContrastBolusVolume, ContrastBolusStartTime=clock(exam.injection_s))
    ]
    ds.ContrastBolusAgentSequence = [agent]


def _set_dimensions(ds: Dataset, exam: Exam) -> None:
    """What the dimension indices of the frames point to: the stack, the slice in it, the time."""
    uid = exam.uid("dimensions")
    ds.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=uid)]
    ds.DimensionIndexSequence = [
        _item(DimensionOrganizationUID=uid, DimensionIndexPointer=pointer, FunctionalGroupPointer=group)
        for pointer, group in (
            (0x00209056, 0x00209111),
            (0x00209057, 0x00209111),
            (0x00209128, 0x00209111),
        )
    ]


def _shared(exam: Exam, series: Series) -> Dataset:
    """Functional groups that all frames share."""
    plane = Plane.of(series.stacks[0].volume)
    columns, rows, _ = series.stacks[0].volume.shape
    shared = _item(
        PixelMeasuresSequence=[
            _item(
                PixelSpacing=decimal(plane.spacing),
                SliceThickness=decimal(plane.between_mm),
                SpacingBetweenSlices=decimal(plane.between_mm),
            )
        ],
        PlaneOrientationSequence=[_item(ImageOrientationPatient=decimal(plane.orientation))],
        FrameAnatomySequence=[
            _item(FrameLaterality="U", AnatomicRegionSequence=[_code("10200004", "SCT", "Liver")])
        ],
        MRImageFrameTypeSequence=[
            _item(
                FrameType=["ORIGINAL", "PRIMARY", "T1", "NONE"],
                PixelPresentation="MONOCHROME",
                VolumetricProperties="VOLUME",
                VolumeBasedCalculationTechnique="NONE",
                ComplexImageComponent="MAGNITUDE",
                AcquisitionContrast="T1",
            )
        ],
        MRTimingAndRelatedParametersSequence=[
            _item(
                RepetitionTime=decimal(exam.tr_ms),
                FlipAngle=decimal(exam.flip_deg),
                EchoTrainLength=1,
                RFEchoTrainLength=0,
                GradientEchoTrainLength=1,
                SpecificAbsorptionRateSequence=[
                    _item(SpecificAbsorptionRateDefinition="IEC_WHOLE_BODY", SpecificAbsorptionRateValue=1.0)
                ],
                OperatingModeSequence=[
                    _item(OperatingModeType=kind, OperatingMode="IEC_NORMAL")
                    for kind in ("STATIC FIELD", "RF", "GRADIENT")
                ],
            )
        ],
        MREchoSequence=[_item(EffectiveEchoTime=exam.te_ms)],
        MRAveragesSequence=[_item(NumberOfAverages=decimal(1))],
        MRFOVGeometrySequence=[
            _item(
                InPlanePhaseEncodingDirection="COLUMN",
                MRAcquisitionFrequencyEncodingSteps=columns,
                MRAcquisitionPhaseEncodingStepsInPlane=rows,
                MRAcquisitionPhaseEncodingStepsOutOfPlane=series.stacks[0].volume.shape[2],
                PercentSampling=decimal(100),
                PercentPhaseFieldOfView=decimal(100),
            )
        ],
        MRModifierSequence=[
            _item(
                InversionRecovery="NO",
                FlowCompensation="NONE",
                Spoiling="RF",
                T2Preparation="NO",
                SpectrallySelectedExcitation="NONE",
                SpatialPresaturation="NONE",
                PartialFourier="NO",
                ParallelAcquisition="NO",
            )
        ],
        MRImagingModifierSequence=[
            _item(
                MagnetizationTransfer="NONE",
                BloodSignalNulling="NO",
                Tagging="NONE",
                TransmitterFrequency=imaging_frequency_mhz(exam),
                PixelBandwidth=decimal(500),
            )
        ],
        MRReceiveCoilSequence=[
            _item(
                ReceiveCoilName="Torso",
                ReceiveCoilManufacturerName="",
                ReceiveCoilType="MULTICOIL",
                QuadratureReceiveCoil="YES",
                MultiCoilDefinitionSequence=[_item(MultiCoilElementName="1", MultiCoilElementUsed="YES")],
            )
        ],
        MRTransmitCoilSequence=[
            _item(TransmitCoilName="Body", TransmitCoilManufacturerName="", TransmitCoilType="BODY")
        ],
    )
    if series.contrast:
        shared.ContrastBolusUsageSequence = [
            _item(
                ContrastBolusAgentNumber=1,
                ContrastBolusAgentAdministered="YES",
                ContrastBolusAgentDetected="YES",
            )
        ]
    return shared


def _frame(date: str, stack: Stack, scaling: Scaling, index: int, k: int) -> Dataset:
    """Functional groups of a frame: where, when, and what its values mean."""
    moment = date + clock(stack.time_s)
    brightest = float(stack.volume.array.max()) * scaling.slope * (scaling.scale_slope or 1.0)
    frame = _item(
        FrameContentSequence=[
            _item(
                StackID="1",
                InStackPositionNumber=k + 1,
                TemporalPositionIndex=index + 1,
                DimensionIndexValues=[1, k + 1, index + 1],
                FrameAcquisitionNumber=index + 1,
                FrameAcquisitionDateTime=moment,
                FrameReferenceDateTime=moment,
                FrameAcquisitionDuration=_BREATH_HOLD_MS,
            )
        ],
        PlanePositionSequence=[_item(ImagePositionPatient=decimal(Plane.of(stack.volume).position(k)))],
        PixelValueTransformationSequence=[
            _item(RescaleIntercept=decimal(0), RescaleSlope=decimal(scaling.slope), RescaleType="US")
        ],
        FrameVOILUTSequence=[
            _item(
                WindowCenter=decimal(round(brightest / 2, 3)),
                WindowWidth=decimal(max(round(brightest, 3), 1)),
            )
        ],
    )
    if scaling.scale_slope is not None:
        private = _item()
        add_scale_slope(private, scaling.scale_slope)
        # always in block 14, where readers look for it
        frame.add_new(0x20050014, "LO", _PRIVATE_GROUP)
        frame.add_new(0x2005140F, "SQ", [private])
    return frame


_PRIVATE_GROUP = "Philips MR Imaging DD 005"
"""Private creator of the sequence (2005,140F) in which Philips repeats a frame's classic attributes."""
