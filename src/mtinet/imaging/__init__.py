"""Geometry and pixels: resampling, registration, masks, and the checks that need to see an image."""
