"""Testing a reconstruction on pairs: a row of metrics per pair, and intervals for their means and differences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synth.recipe import Recipe
from synth.stages.lesions import LesionsSpec
from synth.stages.mask_lines import RegularSpec
from synth.stages.mask_points import Regular2DSpec
from synth.stages.sampling import SamplingSpec

from ..data.datasets import PairDataset
from ..data.loader import make_loader
from ..models.catalogue import Reconstruction
from .metrics import SLICE_METRICS, aliasing_energy, slice_metrics
from .probes import (
    contrast_recovery,
    data_consistency,
    false_lesions,
    noise_centre,
    noise_maps,
    noise_spread,
    pure_noise,
)

Row = dict[str, Any]
Image = NDArray[np.complex64]
PROBES = ("contrast_recovery", "false_lesions", "noise_gain", "noise_kurtosis", "noise_spread", "noise_centre")
METRICS = (*(metric.__name__ for metric in SLICE_METRICS), "aliasing_energy", "data_consistency", *PROBES)


def reconstructions(
    model: Reconstruction, pairs: PairDataset, batch_size: int = 4, device: torch.device | str | None = None
) -> Iterator[tuple[dict[str, Tensor], Image]]:
    """Batches, bucket by bucket, each with its images [batch y x]."""
    for batch in make_loader(pairs, batch_size, shuffle=False, device=device):
        with torch.no_grad():
            images = model(batch).cpu().numpy()
        yield batch, images  # outside no_grad, so that the caller's loop keeps its gradient mode


def evaluate(
    model: Reconstruction, pairs: PairDataset, batch_size: int = 4, device: torch.device | str | None = None
) -> list[Row]:
    """Test a reconstruction on every pair of a corpus.

    Parameters
    ----------
    model
        Called as ``model(batch) -> image``, complex [batch y x]; a network must be on `device` already.
    pairs
        The corpus.
    batch_size
        Pairs that are reconstructed at once.
    device
        The device of the batches; by default the GPU if there is one.

    Returns
    -------
    A row per pair, in the order of the pairs' indices: its index, net acceleration and sigma, and every metric.

    Raises
    ------
    ValueError
        An image is not finite.
    """
    made = reconstructions(model, pairs, batch_size, device)
    return sorted((row for batch, images in made for row in rows_of(batch, images, pairs)), key=lambda row: row["pair"])


def rows_of(batch: dict[str, Tensor], images: Image, pairs: PairDataset) -> list[Row]:
    """A row per pair: its index, net acceleration and sigma, and every metric of `recon.evaluation.metrics`.

    Pairs with noise also have ``data_consistency``. Regularly undersampled pairs also have ``aliasing_energy``, the
    share of the error that looks like aliases. Raises ValueError for images that are not finite.
    """
    bad = [int(pair) for pair, image in zip(batch["pair_id"], images, strict=True) if not np.isfinite(image).all()]
    if bad:
        raise ValueError(f"pair {bad[0]}: the reconstruction holds NaN or infinity; check the training of the network")
    rows: list[Row] = []
    sampling = pairs.recipe.sampling
    known = bool((batch["sigma"] > 0).all())
    consistency = data_consistency(torch.from_numpy(images).to(batch["masked_kspace"]), batch) if known else []
    for k, image in enumerate(images):
        reference = batch["target"][k].cpu().numpy()
        row: Row = {
            "pair": int(batch["pair_id"][k]),
            "acceleration_net": float(batch["acceleration_net"][k]),
            "sigma": float(batch["sigma"][k]),
            **slice_metrics(image, reference),
        }
        shifts = _alias_shifts(sampling, reference.shape)
        if shifts:
            row["aliasing_energy"] = aliasing_energy(image, reference, shifts)
        if known:
            row["data_consistency"] = consistency[k]
        rows.append(row)
    return rows


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
    if recipe.target.lesions is None or recipe.model_copy(update={"target": bare}) != without:
        raise ValueError("these corpora must have the same recipe but for target.lesions, which only the first has")


def lesion_rows(
    batch: dict[str, Tensor], images: Image, bare_batch: dict[str, Tensor], bare_images: Image, lesions: LesionsSpec
) -> list[Row]:
    """Rows of how much of the lesions was recovered, and of false lesions in images without lesions (`probes`)."""
    targets, bare_targets = (part["target"].cpu().numpy() for part in (batch, bare_batch))
    rows = []
    for k, pair in enumerate(batch["pair_id"].tolist()):
        recovered = contrast_recovery(images[k], bare_images[k], targets[k], bare_targets[k])
        appeared = false_lesions(bare_images[k], bare_targets[k], lesions)
        rows.append({"pair": pair, "contrast_recovery": float(np.mean(recovered)), "false_lesions": appeared})
    return rows


def noise_rows(
    model: Reconstruction,
    pairs: PairDataset,
    replicas: int,
    batch_size: int = 4,
    device: torch.device | str | None = None,
) -> tuple[list[Row], NDArray[np.float64]]:
    """Rows of gain, kurtosis and evenness of noise (`recon.evaluation.probes`), and the first pair's noise map [y x].

    Raises ValueError where the corpus's noise is not known, or not white.
    """
    if pairs.recipe.noise.covariance != "white" and not pairs.recipe.own_maps:  # scans are whitened
        raise ValueError(
            "replicas of noise are white, and this corpus's noise.covariance is "
            f"'{pairs.recipe.noise.covariance}'; leave replicas out"
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
    if first is None:
        raise ValueError("this corpus has no pair")
    return rows, first[1]


def _alias_shifts(sampling: SamplingSpec, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """The shifts by which regular undersampling folds an image [y x] onto itself; empty for other masks."""
    if isinstance(sampling, RegularSpec):
        rates = (1, sampling.acceleration)
    elif isinstance(sampling, Regular2DSpec) and sampling.shift == 0:
        rates = sampling.acceleration
    else:
        return []
    steps = [n / rate for n, rate in zip(shape, rates, strict=True)]
    every = [(round(steps[0] * j), round(steps[1] * k)) for j in range(rates[0]) for k in range(rates[1])]
    return every[1:]


def image_of(model: Reconstruction, item: dict[str, torch.Tensor], device: torch.device) -> NDArray[np.complexfloating]:
    """The reconstruction [y x] of one pair."""
    with torch.no_grad():
        return np.asarray(model({name: value[None].to(device) for name, value in item.items()})[0].cpu().numpy())
