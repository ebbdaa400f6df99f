"""Which pairs a training can use: what they must say of their noise and of their references."""

from __future__ import annotations

from collections.abc import Sequence

from ..data.datasets import PairDataset
from ..errors import TrainingError
from .settings import Training


def refuse_unusable(corpora: Sequence[PairDataset], settings: Training) -> None:
    """Raise TrainingError if the settings need what the corpora do not have: a known sigma, a noisy reference."""
    if getattr(settings.model, "noise_aware", False) or settings.training.noisier:
        _refuse_unknown_noise(corpora)
    if settings.training.noisier:
        _refuse_other_references(corpora)


def _refuse_unknown_noise(corpora: Sequence[PairDataset]) -> None:
    """Raise TrainingError if the noise level of some pair is 0 or not known."""
    for pairs in corpora:
        if without := pairs.without_sigma:
            raise TrainingError(
                f"{pairs.name_of(without[0])}: its sigma is 0 or not known ({len(without)} of {len(pairs)} pairs), and "
                "a noise-aware network and training.noisier need it; leave the corpus out, or set model.noise_aware = "
                "false and training.noisier = 0"
            )


def _refuse_other_references(corpora: Sequence[PairDataset]) -> None:
    """Raise TrainingError for pairs whose reference does not hold the white noise of the samples."""
    for pairs in corpora:
        recipe = pairs.recipe
        why = None
        if recipe.target.reference == "clean":
            why = "has clean references, which need no correction; leave training.noisier out"
        elif recipe.target.zero_filled is not None:
            why = "has no noise where target.zero_filled leaves zeros; build it without"
        elif not recipe.noise_is_white:
            why = "has noise that correlates between coils; build it with noise.whiten = true"
        if why:
            raise TrainingError(f"training.noisier: {recipe.name} {why}")
