"""Learning from scans: their noise, and the sensitivity maps of their coils."""

from ..moved import forwarding

__getattr__ = forwarding(__name__, {"calibrate": "synth.calibration.scan_noise"})
