"""What a recipe asks for that is allowed, and that its user may not mean."""

from __future__ import annotations

import math

import numpy as np

from synth.recipe import Recipe
from synth.stages.coils import LoopsSpec
from synth.stages.noise import NoiseSpec

from ..display.terminal import counted

FAR = 5.0  # half diagonals; of eight loops there, the maps' covariance has eigenvalues of 1, 0.04 and 0.005
STEEP = 4 * math.pi  # rad


def recipe_notes(recipe: Recipe) -> list[str]:
    """A sentence for each value that looks like one of another unit, and where coils cannot separate the aliases."""
    notes = []
    if isinstance(recipe.coils, LoopsSpec) and (far := recipe.coils.distance[1]) > FAR:
        notes.append(
            f"coils.distance reaches {far:g} half diagonals of the field of view, its unit: loops so far away see the "
            "object alike and cannot separate its aliases; 0.7 to 2 are usual"
        )
    if (amplitude := getattr(recipe.phase, "amplitude", (0.0, 0.0))[1]) > STEEP:
        notes.append(f"phase.amplitude reaches {amplitude:g} rad, its unit; up to pi is usual")
    if (low := getattr(recipe.noise, "snr", (math.inf,))[0]) < 1:
        notes.append(
            f"noise.snr goes down to {low:g}: more noise than signal; it is signal over noise, 5 to 100 are usual"
        )
    if recipe.noise.kind == "none" and (unused := _of_noise_alone(recipe)):
        notes.append(f"{', '.join(unused)} {'has' if len(unused) == 1 else 'have'} no effect with noise.kind = 'none'")
    if recipe.of_scans and (unused := _of_photographs_alone(recipe)):
        notes.append(f"{', '.join(unused)} {'has' if len(unused) == 1 else 'have'} no effect on pairs from scans")
    coils = getattr(recipe.coils, "count", None) or math.inf  # scans' and libraries' are not known here
    aliases = float(np.prod(getattr(recipe.sampling, "acceleration", 1)))
    return notes + beyond_coils(coils, aliases)


def _of_noise_alone(recipe: Recipe) -> list[str]:
    """Keys that differ from their defaults, and that pairs to which no noise is added do not use."""
    usual = NoiseSpec()
    return [f"noise.{key}" for key in ("snr", "law") if getattr(recipe.noise, key) != getattr(usual, key)]


def _of_photographs_alone(recipe: Recipe) -> list[str]:
    """Keys that are given, and that pairs from scans do not use."""
    target = [f"target.{key}" for key in ("contrast", "outline") if key in recipe.target.model_fields_set]
    target += ["target.matrix"] if recipe.target.fit == "native" and "matrix" in recipe.target.model_fields_set else []
    return [*target, *(["[phase]"] if "phase" in recipe.model_fields_set else [])]


def beyond_coils(coils: float, aliases: float) -> list[str]:
    """A sentence where as many aliases overlap as there are coils, or more: SENSE needs fewer (MRM 42:952)."""
    if aliases < coils or aliases == 1:
        return []
    can = "cannot" if aliases > coils else "can hardly"
    few = counted(int(coils), "coil")
    return [f"{few} {can} separate the aliases of acceleration {aliases:.3g}: the image rests on the model"]
