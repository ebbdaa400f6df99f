"""Testing a reconstruction on pairs: a row of metrics per pair, and intervals for their means and differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synth.corpus.sources import Source
from synth.given import shown
from synth.recipe import Recipe
from synth.settings.spec import differing_keys
from synth.stages.lesions import LesionsSpec

from ..data.datasets import PairDataset
from ..data.loader import make_loader
from ..models.called import image_by
from ..models.catalogue import Reconstruction
from .aliasing import aliases_of, aliasing
from .beside_gpu import each
from .disturbed import UNDISTURBED, Disturbance
from .metrics import SLICE_METRICS, over_sets, slice_metrics
from .probes import (
    contrast_recovery,
    data_consistency,
    false_lesions,
    lesion_error,
    noise_centre,
    noise_maps,
    noise_spread,
    pure_noise,
)

Row = dict[str, Any]
Image = NDArray[np.complex64] | NDArray[np.float32]  # real: magnitudes
LESIONS = ("contrast_recovery", "lesion_error", "false_lesions", "false_bright", "false_dark")
NOISE = ("noise_gain", "noise_kurtosis", "noise_spread", "noise_centre")
PROBES = (*LESIONS, *NOISE)
NOISE_MAP = ("noise_sd", "noise_sd_magnitude", "noise_sd_error", "null_share", "halves_agreement")
ALIASING = ("aliasing_energy", "aliasing_nmse")
SOURCE = ("source", "source_sha256", "subject")  # columns of text
METRICS = (*(metric.__name__ for metric in SLICE_METRICS), *ALIASING, "data_consistency", *PROBES, *NOISE_MAP)


def reconstructions(
    model: Reconstruction,
    pairs: PairDataset,
    batch_size: int = 4,
    device: torch.device | str | None = None,
    disturbance: Disturbance = UNDISTURBED,
) -> Iterator[tuple[dict[str, Tensor], Image]]:
    """Batches, bucket by bucket, each with its images [batch y x], or [batch set y x] with several map sets.

    A disturbance is of what the model is given.
    """
    for batch in make_loader(pairs, batch_size, shuffle=False, device=device):
        with torch.no_grad():
            images = image_by(model, disturbance.of(batch)).cpu().numpy()
        yield batch, images  # outside no_grad, so that the caller's loop keeps its gradient mode


def evaluate(
    model: Reconstruction, pairs: PairDataset, batch_size: int = 4, device: torch.device | str | None = None
) -> list[Row]:
    """Test a reconstruction on every pair of a corpus.

    Parameters
    ----------
    model
        Any function or module, called as ``model(batch) -> image`` [batch y x], complex or magnitude; a network must be
        on `device` already.
    pairs
        The corpus.
    batch_size
        Pairs that are reconstructed at once.
    device
        The device of the batches; by default the GPU if there is one.

    Returns
    -------
    A row per pair, in the order of the pairs' indices: its index, source, net acceleration and sigma, and every metric.
    For magnitudes, rows have no metric that needs phases.

    Raises
    ------
    ModelError
        The model gives no images of the batch's shape.
    ValueError
        An image is not finite.
    """
    if not callable(model):
        told = "a model that is called as model(batch); pipelines.model_named gives the one of a name"
        raise TypeError(f"evaluate takes {told}; got {shown(model)}")
    made = reconstructions(model, pairs, batch_size, device)
    return sorted((row for batch, images in made for row in rows_of(batch, images, pairs)), key=lambda row: row["pair"])


def rows_of(batch: dict[str, Tensor], images: Image, pairs: PairDataset) -> list[Row]:
    """A row per pair: its index, source, net acceleration and sigma, and every metric of `recon.evaluation.metrics`.

    Pairs with noise also have ``data_consistency``. Regularly undersampled pairs also have ``aliasing_energy`` and
    ``aliasing_nmse`` (`recon.evaluation.aliasing`), unless they have several map sets. Real images are magnitudes, for
    which these three and ``nrmse_complex`` are left out. Raises ValueError for images that are not finite.
    """
    device = batch["masked_kspace"].device
    on_host = {name: batch[name].cpu().numpy() for name in ("pair_id", "acceleration_net", "sigma", "target")}
    for pair, sigma, image in zip(on_host["pair_id"], on_host["sigma"], images, strict=True):
        if not np.isfinite(image).all():
            why = "check the training of the network" if sigma > 0 else "a noise-aware network needs its sigma"
            raise ValueError(f"pair {pair}: the reconstruction holds NaN or infinity; {why}")
    has_phase = np.iscomplexobj(images)
    known = has_phase and bool((on_host["sigma"] > 0).all())
    consistency = data_consistency(torch.from_numpy(images).to(device), batch) if known else []

    def row_of(k: int) -> Row:
        reference = on_host["target"][k]
        pair = int(on_host["pair_id"][k])
        row: Row = {
            "pair": pair,
            **source_columns(pairs.sources.get(pair)),
            "acceleration_net": float(on_host["acceleration_net"][k]),
            "sigma": float(on_host["sigma"][k]),
            **slice_metrics(images[k], reference),
        }
        aliases = aliases_of(pairs.recipe.sampling, reference.shape) if reference.ndim == 2 else None
        if aliases is not None and has_phase:
            row |= aliasing(images[k], reference, aliases)
        return row | ({"data_consistency": consistency[k]} if known else {})

    return each(row_of, range(len(images)), device)


def source_columns(source: Source | None) -> dict[str, str]:
    """The columns of a row that name its pair's source: name, sha256 of the file, and subject, as far as known."""
    if source is None:
        return {}
    values = source.name, source.sha256, source.subject
    return {name: value for name, value in zip(SOURCE, values, strict=True) if value}


def refuse_other_pairs(pairs: PairDataset, without: PairDataset) -> None:
    """Raise ValueError unless the corpora hold the same pairs with and without lesions."""
    same_but_for_lesions(pairs.recipe, without.recipe)
    if pairs.pair_ids != without.pair_ids:
        raise ValueError(
            "these corpora rejected different photographs, so that their pairs do not match; lower "
            "target.lesions.diameter, so that each photograph has room for a lesion"
        )


def same_but_for_lesions(recipe: Recipe, without: Recipe) -> None:
    """Raise ValueError unless the recipes differ in target.lesions alone, which only the first has."""
    bare = recipe.target.model_copy(update={"lesions": None})
    if recipe.target.lesions is None:
        raise ValueError(
            "the corpus to test has no target.lesions, so that there is none without them to compare it with"
        )
    if (plain := recipe.model_copy(update={"target": bare})) != without:
        keys = differing_keys(plain.model_dump(mode="json"), without.model_dump(mode="json"))
        raise ValueError(
            f"the corpora must have the same recipe but for target.lesions; they differ in {', '.join(sorted(keys))}"
        )


def lesion_rows(
    batch: dict[str, Tensor], images: Image, bare_batch: dict[str, Tensor], bare_images: Image, lesions: LesionsSpec
) -> list[Row]:
    """Rows of how well lesions were recovered, and of false lesions in images without lesions (`probes`)."""
    targets, bare_targets = (part["target"].cpu().numpy() for part in (batch, bare_batch))
    if not np.iscomplexobj(images):
        targets, bare_targets = np.abs(targets), np.abs(bare_targets)
    rows = []
    for k, pair in enumerate(batch["pair_id"].tolist()):
        four = images[k], bare_images[k], targets[k], bare_targets[k]
        row: Row = {"pair": pair, "contrast_recovery": float(np.mean(contrast_recovery(*four)))}
        row["lesion_error"] = float(np.mean(lesion_error(*four)))
        rows.append(row | false_lesions(bare_images[k], bare_targets[k], lesions))
    return rows


def noise_rows(
    model: Reconstruction,
    pairs: PairDataset,
    replicas: int,
    batch_size: int = 4,
    device: torch.device | str | None = None,
    advance: Callable[[int], None] = lambda *_: None,
) -> tuple[list[Row], NDArray[np.float64]]:
    """Rows of gain, kurtosis and evenness of noise (`recon.evaluation.probes`), and the first pair's noise map [y x].

    `advance` is called with the number of pairs that are done. Raises ValueError where the corpus's noise is not known,
    or not white, or where pairs have several map sets.
    """
    pairs.refuse_map_sets("a test with replicas of noise")
    if not pairs.recipe.noise_is_white:
        raise ValueError(
            "replicas of noise are white, and this corpus's noise is not: noise.covariance is "
            f"'{pairs.recipe.noise.covariance}', target.zero_filled {pairs.recipe.target.zero_filled}; leave replicas "
            "out"
        )
    rows: list[Row] = []
    first: tuple[int, NDArray[np.float64]] | None = None
    for batch in make_loader(pairs, batch_size, shuffle=False, device=device):
        if not bool((batch["sigma"] > 0).all()):
            raise ValueError("replicas need every pair's noise level, and some sigma is 0 or not known; leave them out")
        with torch.no_grad():
            alone, levels = pure_noise(model, batch), noise_maps(model, batch, replicas)
        for pair, found, level, target in zip(batch["pair_id"].tolist(), alone, levels, batch["target"], strict=True):
            reference = target.cpu().numpy()
            evenness = {"noise_spread": noise_spread(level, reference), "noise_centre": noise_centre(level, reference)}
            rows.append({"pair": pair, **found, **{name: v for name, v in evenness.items() if np.isfinite(v)}})
            if first is None or pair < first[0]:
                first = pair, level
        advance(len(levels))
    if first is None:
        raise ValueError("this corpus has no pair")
    return rows, first[1]


def image_of(model: Reconstruction, item: dict[str, torch.Tensor], device: torch.device) -> NDArray[np.complexfloating]:
    """The reconstruction [y x] of one pair; with several map sets, as it is shown (`over_sets`)."""
    with torch.no_grad():
        made = image_by(model, {name: value[None].to(device) for name, value in item.items()})[0].cpu().numpy()
    return over_sets(np.asarray(made))
