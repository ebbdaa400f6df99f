"""Read a corpus once, as training would."""

from __future__ import annotations

import time
from typing import Any

from recon.data.datasets import PairDataset
from recon.data.loader import make_loader
from synth.storage.place import Place

from ..display.progress import Meter


def iterate(path: Place, batch_size: int) -> dict[str, Any]:
    """Read every pair of a corpus once in batches; return shapes of the first batch, counts and pairs/s."""
    pairs = PairDataset(path)
    loader = make_loader(pairs, batch_size)
    shapes: dict[str, str] = {}
    batches, started = 0, time.perf_counter()
    with Meter(f"read {path.name}", len(pairs)) as meter:
        for batch in loader:
            shapes = shapes or {k: f"{list(v.shape)} {str(v.dtype).removeprefix('torch.')}" for k, v in batch.items()}
            batches += 1
            meter.advance(len(batch["pair_id"]))
    rate = len(pairs) / max(time.perf_counter() - started, 1e-9)
    return {"pairs": len(pairs), "batches": batches, "pairs_per_s": round(rate, 1), "batch": shapes}
