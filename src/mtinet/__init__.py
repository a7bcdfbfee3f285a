"""Liver lesions on multi-phase contrast-enhanced MRI: segmented, quantified and classified in one model."""
