"""Networks, baselines, and the solvers that they share: all are called ``model(batch) -> image``."""

from synth.moved import forwarding

__getattr__ = forwarding(__name__, {"make_model": "recon.models.catalogue"})
