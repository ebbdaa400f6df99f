"""Fully sampled k-space in any of the field's formats, opened as one typed scan."""
