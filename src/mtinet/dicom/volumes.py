"""From the headers of a series to its volumes, with every reason why one cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mtinet.dicom.decode import MAX_VOXELS, RefusedLoader, SliceSource, VolumeLoader, why_unusable
from mtinet.dicom.geometry import StackError, affine_ras, axes
from mtinet.dicom.grouping import FILE, INSTANCE_ORDER, Stack, divide, orientations
from mtinet.dicom.headers import Header, Image, PixelFormat
from mtinet.dicom.intensity import scaling
from mtinet.dicom.series import Grid, SeriesInfo, VolumeInfo
from mtinet.dicom.sources import SourceFile
from mtinet.dicom.times import past_midnight
from mtinet.results import Finding, Severity
from mtinet.volume import LPS, wrong_size

MAX_VOLUMES = 5000
Source = tuple[SourceFile, Header]


@dataclass(frozen=True)
class DicomVolume:
    """One volume of a series and where it came from.

    Attributes
    ----------
    info : VolumeInfo
        ``info.load()`` gives the voxels: ``float32``, comparable between volumes where ``comparable`` says
        so, with a RAS affine whose third axis runs along the slices' normal.
    instance_uids : tuple of str
        SOPInstanceUID of each slice along the third axis.  A multi-frame file that holds the whole volume is
        named once, and ``frame_numbers`` tells its frames.
    frame_numbers : tuple of int
        Frame of each slice, from 1; empty for single-frame files.
    comparable : bool
        False where intensities of different volumes have no common scale (Philips without its private scale
        slope): enhancement is then unverified.
    refused : str
        Why the volume cannot be used (a slice is missing, for example); ``info.load`` raises it.
    burned_in : bool
        An image of it says that text is burned into its pixels.
    """

    info: VolumeInfo
    instance_uids: tuple[str, ...]
    frame_numbers: tuple[int, ...] = ()
    comparable: bool = True
    refused: str = ""
    burned_in: bool = False

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """Those that hold its slices, each once; none where it is refused."""
        load = self.info.load
        return tuple(dict.fromkeys(s.file for s in load.slices)) if isinstance(load, VolumeLoader) else ()


@dataclass(frozen=True)
class DicomSeries:
    """One series: ``info.volumes[k]`` is ``volumes[k].info``."""

    info: SeriesInfo
    volumes: tuple[DicomVolume, ...]
    frame_of_reference_uid: str = ""


class _Notes:
    """Findings about one series; each names it."""

    def __init__(self, case: str, header: Header) -> None:
        number, description = header.series["series_number"], header.series["description"]
        self._case = case
        self.name = f"series {number or header.series['series_uid']}" + (
            f" ({description})" if description else ""
        )
        self.findings: list[Finding] = []

    def add(self, id: str, severity: Severity, text: str, action: str) -> None:
        """Add a finding; ``text`` goes on from the series' name."""
        name = self.name[0].upper() + self.name[1:]
        self.findings.append(Finding(id, "import", severity, f"{name} {text}", action, case=self._case))


def build_series(study_key: str, sources: Sequence[Source]) -> tuple[DicomSeries, list[Finding]]:
    """The series that files of one SeriesInstanceUID make.

    Parameters
    ----------
    study_key : str
        What findings name as their case.
    sources : sequence of (SourceFile, Header)
        At least one.

    Returns
    -------
    DicomSeries
        Its volumes in the order of acquisition; those that cannot be whole are ``refused``.
    list of Finding
    """
    first = sources[0][1]
    notes = _Notes(study_key, first)
    by_image = _with_rising_times(_usable(sources, notes))
    images = [image for image, _ in by_image.values()]
    groups = orientations(images)
    _name_oddities(images, groups, notes)
    stacks = [stack for group in groups for stack in divide(group)]
    if len(stacks) > MAX_VOLUMES:
        notes.add(
            "too-many-volumes", "error", f"comes apart into {len(stacks)} volumes", "Leave this series out."
        )
        stacks = []
    if any({INSTANCE_ORDER, FILE} & set(stack.by) for stack in stacks):
        notes.add(
            "instance-order",
            "warning",
            f"holds {len(stacks)} volumes that only the order of its image numbers tells apart",
            "Compare the phases on the quality page before they are used.",
        )
    volumes = [_volume(k, stack, by_image, first, notes) for k, stack in enumerate(stacks)]
    if any(not volume.comparable for volume in volumes):
        notes.add(
            "not-comparable",
            "warning",
            "has no Philips scale slope (2005,100E), so its intensities are those of the display and "
            "enhancement is unverified",
            "Export the series again with its private attributes.",
        )
    text = first.series
    info = SeriesInfo(
        study_key,
        text["series_uid"],
        **{k: text[k] for k in ("series_number", "description", "protocol", "sequence", "body_part")},
        **{k: text[k] for k in ("modality", "manufacturer", "model", "agent")},
        study_description=first.study["study_description"],
        n_images=sum(len(header.images) for _, header in sources),
        agent_start_s=next((h.agent_start_s for _, h in sources if h.agent_start_s is not None), None),
        field_T=first.field_T,
        time_s=None,  # each volume has its own
        volumes=tuple(volume.info for volume in volumes),
        row=None,
    )
    return DicomSeries(info, tuple(volumes), text["frame_of_reference_uid"]), notes.findings


_ByImage = dict[Hashable, tuple[Image, Source]]


def _images(count: int) -> str:
    return f"{count} {'image' if count == 1 else 'images'}"


def _identity(image: Image) -> Hashable:
    """What copies of an image have in common: place and time too, for some anonymisers give all images one uid."""
    place = (image.file_number, image.position, image.orientation)
    return image.uid, image.frame, place, image.time_s, image.trigger_ms, image.temporal_position


def _usable(sources: Iterable[Source], notes: _Notes) -> _ByImage:
    """Images that may be slices, by what tells them apart; the others are named."""
    usable: _ByImage = {}
    twice, colour = 0, 0
    damaged: list[tuple[str, Header]] = []
    for source in sources:
        header = source[1]
        if header.format is None:
            continue
        why = why_unusable(header.format)
        if header.format.samples != 1:
            colour += 1
            continue
        if why:
            damaged.append((why, header))
            continue
        for image in header.images:
            key = _identity(image)
            if key in usable:
                twice += 1
            else:
                usable[key] = (image, source)
    whole = [all(_identity(image) in usable for image in header.images) for _, header in damaged]
    for why, count in Counter(why for (why, _), spare in zip(damaged, whole) if not spare).items():
        # no names: folders and files are often called by the patient
        text = (
            f"has {count} images that cannot be used: each {why}" if count > 1 else f"has an image that {why}"
        )
        notes.add("unusable-image", "error", text, "Export or copy it again.")
    if spare := sum(whole):
        notes.add(
            "duplicate-file",
            "note",
            f"holds {spare} damaged {'copies' if spare > 1 else 'copy'} of images that it holds whole too; the whole "
            f"{'ones are' if spare > 1 else 'one is'} used",
            "Nothing to do.",
        )
    if twice:
        notes.add(
            "duplicate-file",
            "note",
            f"holds {_images(twice)} twice; one copy of each is used",
            "Nothing to do.",
        )
    shared = len(usable) - len({(image.uid, image.frame) for image, _ in usable.values()})
    if shared:
        notes.add(
            "shared-uid",
            "warning",
            f"holds {_images(shared)} with the SOPInstanceUID of another one, or none; place and time tell them "
            "apart",
            "Compare the phases on the quality page; anonymise the files again, with a UID for each image.",
        )
    if colour:
        notes.add("colour", "note", f"holds {_images(colour)} in colour, left out", "Nothing to do.")
    return usable


def _name_oddities(images: Sequence[Image], groups: Sequence[Sequence[Image]], notes: _Notes) -> None:
    without = len(images) - sum(len(group) for group in groups)
    if without:
        notes.add(
            "no-geometry",
            "warning",
            f"holds {_images(without)} without a usable position, orientation or pixel size, left out",
            "Export the original images; screenshots and reports have no geometry.",
        )
    if any("LOCALIZER" in part.upper() for image in images for part in image.image_type):
        notes.add("localizer", "note", "is a localizer", "Nothing to do; it is none of the phases.")
    elif len({_direction(group[0]) for group in groups}) > 1:
        notes.add(
            "mixed-orientation",
            "note",
            f"mixes slices of {len(groups)} orientations; each makes its own volume",
            "Nothing to do for a localizer; otherwise export the original series.",
        )


def _with_rising_times(by_image: _ByImage) -> _ByImage:
    """Images whose times go on after midnight, where no date tells it."""
    later = past_midnight(image.time_s for image, _ in by_image.values())
    moved = [(replace(image, time_s=later(image.time_s)), source) for image, source in by_image.values()]
    return {_identity(image): (image, source) for image, source in moved}


def _direction(image: Image) -> tuple[float, ...]:
    along = axes(image)
    return () if along is None else tuple(float(v) for v in np.round(along.normal, 2) + 0.0)


def _volume(index: int, stack: Stack, by_image: _ByImage, header: Header, notes: _Notes) -> DicomVolume:
    """The volume of a stack; refused ones are named."""
    images = stack.images
    sources = [by_image[_identity(image)][1] for image in images]
    # a CT of Philips has its Hounsfield units in the rescale alone; no modality is one that somebody took away
    manufacturer = header.series["manufacturer"] if header.series["modality"] in ("MR", "") else ""
    scales = [scaling(image, manufacturer) for image in images]
    first = images[0]
    times = [i.time_s for i in images if i.time_s is not None]
    triggers = [i.trigger_ms for i in images if i.trigger_ms is not None]
    info = VolumeInfo(
        index,
        len(images),
        time_s=min(times, default=None),
        trigger_time_ms=min(triggers, default=None),
        temporal_position=first.temporal_position,
        echo_time_ms=first.echo_time_ms,
        repetition_time_ms=first.repetition_time_ms,
        flip_angle_deg=first.flip_angle_deg,
        image_type=first.image_type,
    )
    files = {source[0] for source in sources}
    frames = tuple(image.frame + 1 for image in images) if first.frame >= 0 else ()
    uids = tuple(image.uid for image in images)
    volume = DicomVolume(
        info,
        uids[:1] if frames and len(files) == 1 else uids,
        frames,
        comparable=all(scale.comparable for scale in scales),
        burned_in=any(header.series["burned_in"].upper() == "YES" for _, header in sources),
    )
    try:
        if "MOSAIC" in first.image_type:
            raise StackError(
                "mosaic",
                "its slices are tiles of one image (Siemens mosaic)",
                "Export it as enhanced MR, or convert it with a tool that unfolds mosaics.",
            )
        affine = affine_ras(images)
        _refuse_mixed_formats([source[1] for source in sources])
        _refuse_wrong_size(affine, sources[0][1], len(images))
    except StackError as error:
        notes.add(error.id, "error", f"cannot be used (its volume {index + 1}): {error}", error.repair)
        message = f"Volume {index + 1} of {notes.name} cannot be used: {error}. {error.repair}"
        return replace(volume, info=replace(info, load=RefusedLoader(message)), refused=str(error))
    slices = tuple(
        SliceSource(file, _format(source), max(0, image.frame), scale)
        for image, (file, source), scale in zip(images, sources, scales)
    )
    loader = VolumeLoader(slices, tuple(tuple(float(v) for v in row) for row in affine))
    return replace(volume, info=replace(info, grid=_grid(affine, slices), load=loader))


def _format(header: Header) -> PixelFormat:
    assert header.format is not None, "_usable() leaves such files out"
    return header.format


def _refuse_wrong_size(affine: NDArray[np.float64], header: Header, slices: int) -> None:
    """Refuse a voxel size in another unit: a lattice over metres would take all memory."""
    form = _format(header)
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    if why := wrong_size((form.columns, form.rows, slices), spacing_mm):
        raise StackError(
            "field-of-view", f"it {why}", "Correct PixelSpacing (millimetres) or export the original series."
        )


def _refuse_mixed_formats(headers: Sequence[Header]) -> None:
    sizes = {(_format(h).rows, _format(h).columns) for h in headers}
    if len(sizes) > 1:
        raise StackError(
            "mixed-sizes", f"its slices have different sizes ({sorted(sizes)})", "Export the original series."
        )
    rows, columns = sizes.pop()
    if rows * columns * len(headers) > MAX_VOXELS:
        raise StackError(
            "too-large",
            f"it has more than {MAX_VOXELS} voxels",
            "Check the export: no MR series is so large.",
        )


def _grid(affine: NDArray[np.float64], slices: Sequence[SliceSource]) -> Grid:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    lps = LPS[:3, :3]
    x, y, z = (float(v) for v in spacing)
    normal = tuple(float(v) for v in lps @ affine[:3, 2] / spacing[2])
    form = slices[0].format
    return Grid(
        (form.columns, form.rows, len(slices)),
        (x, y, z),
        (normal[0], normal[1], normal[2]),
    )
