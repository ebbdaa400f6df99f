"""Random numbers that depend only on an address (seed, stage, index), not on global state, worker or call order."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np


@lru_cache
def _stage_key(stage: str) -> int:
    return int.from_bytes(hashlib.sha256(stage.encode()).digest()[:4], "little")


def rng(seed: int, stage: str, *index: int) -> np.random.Generator:
    """Return the generator that belongs to this address; the same address gives the same numbers anywhere.

    The address is mixed by numpy's ``SeedSequence(seed, spawn_key=(stage, *index))`` (O'Neill's seed_seq
    design: streams of different keys are independent). The bit generator is SFC64 and not Philox because most of the
    time for a pair goes into noise: SFC64 gives raw bits twice as fast, and the address is in the seed either way.
    """
    key = np.random.SeedSequence(seed, spawn_key=(_stage_key(stage), *index))
    return np.random.Generator(np.random.SFC64(key))
