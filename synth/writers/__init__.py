"""One small writer per format that other toolboxes read; `pipelines.corpus.export` chooses among them."""

from __future__ import annotations

from . import cfl, fastmri, mrd

WRITERS = {"fastmri": fastmri, "mrd": mrd, "cfl": cfl}

__all__ = ["WRITERS", "Content"]
