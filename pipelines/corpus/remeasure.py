"""The noise of a corpus, measured from its stored pairs and compared with its stored numbers."""

from __future__ import annotations

from collections.abc import Sequence

from recon.data.datasets import PairDataset
from recon.errors import UnmeasurableError
from recon.evaluation.measured_noise import Measured, measured
from synth.corpus.reader import open_corpus
from synth.rng import rng
from synth.storage.place import Place

from ..display.progress import Meter


def measure(path: Place, count: int) -> list[Measured]:
    """Measure the noise of `count` pairs, spread over the corpus; raises UnmeasurableError if that is not possible."""
    pairs = PairDataset(path)
    recipe = pairs.recipe
    if not recipe.follows_model or recipe.noise.kind == "none" or not recipe.noise.is_white:
        raise UnmeasurableError(
            "only white noise that was added to photographs or volumes can be distinguished from the signal, without "
            "coils.estimated, echo_train and target.zero_filled"
        )
    if recipe.target.reference == "noisy" and min(pairs.coils) == 1:
        raise UnmeasurableError(
            "a noisy reference of a single coil holds all of the noise, which cannot be distinguished from the signal"
        )
    chosen: Sequence[int] = sorted(rng(recipe.seed, "measure").permutation(len(pairs))[:count].tolist())
    snrs = {
        int(index): float(snr)
        for bucket in open_corpus(path).buckets
        for index, snr in zip(bucket.numbers("index"), bucket.numbers("snr_image"), strict=True)
    }
    found = []
    with Meter(f"measure {path.name}", len(chosen)) as meter:
        for position in chosen:
            item = {name: value.numpy() for name, value in pairs[position].items()}
            snr = None if recipe.target.lesions is not None else snrs[int(item["pair_id"])]
            found.append(measured(item, snr, noisy=recipe.target.reference == "noisy"))
            meter.advance(1)
    return found
