"""A page as an Encapsulated PDF: what a PACS shows of a result without knowing segmentations or reports."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mtinet.dicom.made import MAKER, PAGE_SERIES, Software, making
from mtinet.dicom.origin import Origin
from mtinet.results import Result

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_TAKEN_OVER = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
    "StudyDescription",
)


def encapsulated_pdf(result: Result, origin: Origin, software: Software, pdf: bytes) -> Dataset:
    """An Encapsulated PDF instance of the study, which refers to the images of the reference phase.

    Parameters
    ----------
    result : Result
    origin : Origin
    software : Software
    pdf : bytes
        The page.

    Raises
    ------
    OriginError
        The images cannot be read, or lack what the file must take from them.
    """
    sources = origin.instances(result.reference_phase)
    with making("Encapsulated PDF", result.study_id):
        return _dataset(sources, software, pdf)


def _dataset(sources: Sequence[Dataset], software: Software, pdf: bytes) -> Dataset:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import (
        PYDICOM_IMPLEMENTATION_UID,
        EncapsulatedPDFStorage,
        ExplicitVRLittleEndian,
        generate_uid,
    )

    now = datetime.datetime.now()
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    for name in _TAKEN_OVER:
        if name in sources[0]:
            setattr(ds, name, getattr(sources[0], name))
    ds.SOPClassUID, ds.SOPInstanceUID = EncapsulatedPDFStorage, generate_uid()
    ds.SeriesInstanceUID, ds.SeriesNumber, ds.InstanceNumber = generate_uid(), PAGE_SERIES, 1
    ds.Modality, ds.ConversionType = "DOC", "WSD"
    ds.SeriesDescription = "mtinet page (research use only)"
    ds.Manufacturer = ds.ManufacturerModelName = MAKER
    ds.SoftwareVersions = software.version or "unknown"
    ds.DeviceSerialNumber = software.model[:12] or "unknown"
    ds.InstanceCreationDate = ds.SeriesDate = ds.ContentDate = now.strftime("%Y%m%d")
    ds.InstanceCreationTime = ds.SeriesTime = ds.ContentTime = now.strftime("%H%M%S")
    ds.AcquisitionDateTime = ""
    # the page names the study by its pseudonym only
    ds.BurnedInAnnotation = "NO"
    ds.DocumentTitle = "Liver lesions (research use only)"
    ds.ConceptNameCodeSequence = [_code("121144", "DCM", "Document Title")]
    ds.SourceInstanceSequence = [_reference(source) for source in sources]
    ds.VerificationFlag = "UNVERIFIED"
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.EncapsulatedDocumentLength = len(pdf)
    ds.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    return ds


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _reference(source: Dataset) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    return item
