"""DICOM: reading and grouping, intensities, masks, de-identification, writing."""
