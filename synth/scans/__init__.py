"""Fully sampled k-space in any of the field's formats, opened as one typed scan."""

from ..moved import forwarding

__getattr__ = forwarding(__name__, {"open_scan": "synth.scans.open"})
