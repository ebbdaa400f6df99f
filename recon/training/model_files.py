"""A trained network on disk: ``model.safetensors``, and its card ``model.json`` for people and other programs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from synth.settings.spec import differing_keys
from synth.storage.place import Place, names_in_folder, place_of
from synth.storage.whole import write_whole

from ..data.datasets import PairDataset
from ..data.device import named_device
from ..errors import CheckpointError
from ..models.catalogue import ModelSpec, make_model
from ..models.unrolled_sense import UnrolledSense, UnrolledSpec
from .checkpoint import load_tensors, save_tensors
from .scope import MEANING, beyond, numbers_of_pairs, ranges_of, scope_of

WEIGHTS, CARD = "model.safetensors", "model.json"
DIGITS = 16  # of a sha256 in a card: 10 million files have two alike with a probability of 3e-6 (n^2 / 2 / 2^64)
NOTE = "settings.json"  # in every training's folder, whether the training has ended or not
PUBLISHED = "training.json"  # in the place of NOTE, in a folder that `fathom publish` wrote


def save_model(folder: Place, weights: dict[str, Tensor], card: dict[str, Any]) -> None:
    """Write the weights with the card inside the file, and the card once more in a file beside it."""
    write_whole(folder / CARD, card_document(card))
    save_tensors(folder / WEIGHTS, weights, card)


def card_document(card: dict[str, Any]) -> bytes:
    """``model.json``."""
    return (json.dumps(card, indent=2) + "\n").encode()


def note_document(identity: str, settings: dict[str, Any]) -> bytes:
    """``settings.json``: the training that a folder holds."""
    return (json.dumps({"identity": identity, "settings": settings}, indent=2) + "\n").encode()


def kept_name(steps: int | str) -> str:
    """The name of the weights that a training had before it was made longer."""
    return f"model-{steps}.safetensors"


def weights_file(path: str | Place) -> Place:
    """The file of weights in a training's folder, or `path` itself if it is a file; raises CheckpointError."""
    path = place_of(path)
    if path.is_dir() and not (path / WEIGHTS).exists() and (path / NOTE).exists():
        kept = sorted(n for n in names_in_folder(path) if fnmatch(n, kept_name("*")))
        kept.sort(key=len)  # 100 steps are more than 40
        raise CheckpointError(
            f"{path}: its training has not ended; run the same `fathom train` again to go on"
            + "".join(f"; its network before it was made longer is {path / name}" for name in kept[-1:])
        )
    file = path / WEIGHTS if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(
            f"{file} does not exist; give the folder that `fathom train` made; "
            "pipelines.model_named loads a network that comes with the package by its name"
        )
    return file


def load_model(path: str | Place, device: torch.device | str = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """A trained network, ready to reconstruct, and its card.

    Parameters
    ----------
    path
        The folder of its training, or the weights' file; or an address ``s3://bucket/name`` of these.
    device
        The device of the network.

    Returns
    -------
    The network, called as ``model(batch) -> image`` [batch y x], in evaluation mode; and its card.

    Raises
    ------
    CheckpointError
        There is no such model, its training has not ended, or its files are damaged.
    """
    file = weights_file(path)
    weights, card = load_tensors(file)
    made_by = card.get("model") or {}
    if isinstance(made_by, dict) and made_by.get("kind") == "own":
        code = f"{made_by.get('file', 'FILE.py')}:{made_by.get('factory')}"
        raise CheckpointError(f"{file} holds weights of a network that a user's code makes; give {code},{path}")
    try:
        spec = TypeAdapter[Any](ModelSpec).validate_json(json.dumps(card["model"]))
        model = make_model(spec)
        give_weights(model, weights, file)
    except (KeyError, TypeError, ValidationError) as error:
        raise CheckpointError(f"{file}: its card is damaged ({type(error).__name__}); restore it") from None
    return model.to(named_device(device)).eval().requires_grad_(requires_grad=False), card


def give_weights(model: nn.Module, weights: dict[str, Tensor], file: Place) -> None:
    """Put weights into a network; raises CheckpointError if they belong to another network."""
    mine = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    theirs = {name: tuple(t.shape) for name, t in weights.items()}
    if mine != theirs:
        name = sorted(mine.keys() ^ theirs.keys() or (n for n in mine if mine[n] != theirs[n]))[0]
        raise CheckpointError(
            f"{file} holds another network: the shape of {name} is {theirs.get(name, 'missing')} in the file and "
            f"{mine.get(name, 'missing')} in this network; give weights of this network, or [model] the settings in "
            "their model.json"
        )
    model.load_state_dict(weights)


def start_from(model: nn.Module, path: str | Place, spec: ModelSpec | None = None) -> list[dict[str, Any]]:
    """Give a network the weights of a trained one; returns the corpora on which that was trained (`history`).

    An unrolled network may have more channels than the trained one, or be misfit-aware; it then gives the same images
    before its first step. `spec` are the settings of `model`, where it is made from settings. Raises CheckpointError if
    the weights belong to another network; it names the settings that differ.
    """
    file = weights_file(path)
    weights, card = load_tensors(file)
    theirs = None if spec is None else _settings_in(card)
    narrower = None
    if isinstance(model, UnrolledSense) and isinstance(theirs, UnrolledSpec) and _is_less(theirs, model.spec):
        spec = model.spec.model_copy(update={name: getattr(theirs, name) for name in ("channels", "misfit_aware")})
        narrower = UnrolledSense(spec)
    try:
        give_weights(narrower or model, weights, file)
    except CheckpointError:
        differing = [] if spec is None or theirs is None else _differing_settings(theirs, spec)
        if not differing:
            raise
        raise CheckpointError(
            f"{file} holds a network of other settings: {', '.join(differing)}; give [model] the settings in its "
            "model.json, or begin with another network"
        ) from None
    if narrower is not None and isinstance(model, UnrolledSense):
        model.begin_as(narrower)
    return history(card)


def _is_less(theirs: UnrolledSpec, mine: UnrolledSpec) -> bool:
    """Whether a network can begin with the weights of another (`UnrolledSense.begin_as`)."""
    fewer = theirs.channels <= mine.channels and theirs.misfit_aware <= mine.misfit_aware
    return fewer and (theirs.channels, theirs.misfit_aware) != (mine.channels, mine.misfit_aware)


def _settings_in(card: dict[str, Any]) -> ModelSpec | None:
    """The settings of [model] in a card; None for a user's own network, or that of an earlier version."""
    try:
        return TypeAdapter[Any](ModelSpec).validate_json(json.dumps(card.get("model")))
    except ValidationError:
        return None


def _differing_settings(trained: ModelSpec, spec: ModelSpec) -> list[str]:
    """The settings of [model] in which two networks differ, each with both values; only the kind if that does."""
    theirs, mine = (dict(settings) for settings in (trained, spec))  # a dump leaves out keys at their default
    keys = ["kind"] if theirs["kind"] != mine["kind"] else sorted(differing_keys(theirs, mine))
    return [f"model.{key} is {json.dumps(theirs[key])} there and {json.dumps(mine[key])} here" for key in keys]


def learnt_numbers(weights: Mapping[str, Tensor]) -> dict[str, list[float] | None]:
    """What a card tells of an unrolled network's steps: lam, and the powers of the SNR and of the misfit; else None."""
    found = {"lam": weights["log_lam"].exp() if "log_lam" in weights else None, "powers": weights.get("powers")}
    if "misfit_powers" in weights:
        found["misfit_powers"] = weights["misfit_powers"]
    return {name: None if t is None else [round(value, 5) for value in t.tolist()] for name, t in found.items()}


def described(corpora: Sequence[PairDataset]) -> list[dict[str, Any]]:
    """Facts about corpora for a card: name, hash, recipe, and the coils and sizes of their pairs."""
    return [
        {
            "corpus": corpus.path.name,
            "content_hash": corpus.content_hash,
            "pairs": len(corpus),
            "coils": corpus.coils,
            "matrix": [list(geometry.matrix) for geometry in corpus.geometries],
            "scope": scope_of(corpus),
            "recipe": corpus.recipe.model_dump(mode="json", exclude_none=True),
            "sources": sorted(set(_seen(corpus))),
        }
        for corpus in corpora
    ]


def _seen(corpus: PairDataset) -> dict[str, str]:
    """Names of a corpus's sources by what a card keeps of them: the start of the file's sha256, and the slice."""
    found = {}
    for source in corpus.sources.values():
        part = "" if source.slice is None else f"#{source.slice}"
        found[source.sha256[:DIGITS] + part] = source.name
    return found


def seen_in_training(card: dict[str, Any], corpus: PairDataset) -> list[str]:
    """A sentence if the network was trained on sources of this corpus, or its card cannot tell; else none.

    Sources are the same if their files are equal byte for byte and they are the same slice. A network that was
    fine-tuned has also seen the sources of the network that it started from.
    """
    known = [*card.get("data", []), *card.get("started_from", [])]
    if any(part.get("content_hash") == corpus.content_hash for part in known):
        return ["leakage: the network was trained on this corpus, so that its numbers say nothing about other images"]
    here = _seen(corpus)
    shared = sorted(here.keys() & {name for part in known for name in part.get("sources", [])})
    notes = []
    if shared:
        notes.append(
            f"leakage: the network was trained on {len(shared)} of the {len(here)} sources of this corpus, such as "
            f"{here[shared[0]]}; test it on others"
        )
    if not all("sources" in part for part in known):
        notes.append("the model is of an earlier version, whose card does not name the sources of its training")
    return notes


def history(card: dict[str, Any]) -> list[dict[str, Any]]:
    """What a card says of the corpora on which a network and those that it started from were trained."""
    keys = ("corpus", "content_hash", "sources")
    own = [{key: part[key] for key in keys if key in part} for part in card.get("data", [])]
    return list({part["content_hash"]: part for part in (*own, *card.get("started_from", []))}.values())


def strangeness(card: dict[str, Any], corpora: Sequence[PairDataset]) -> list[str]:
    """How corpora differ from a network's training corpora, one sentence each; it runs on them all the same.

    Numbers are those of `recon.training.scope`, by which scans are judged, too. Where an earlier version wrote the
    card, they are the coils and the matrix.
    """
    known = card.get("data", [])
    if any(ranges_of(card, name) for name in MEANING):
        return [note for corpus in corpora for note in beyond(card, _of_each_pair(corpus), "pairs")]
    notes = []
    for what, name in (("coils", "number of coils"), ("matrix", "matrix")):
        seen = {json.dumps(value) for part in known for value in _each(part.get(what, []))}
        here = {json.dumps(value) for part in described(corpora) for value in _each(part[what])}
        if seen and here - seen:
            was, now = (", ".join(sorted(part)) for part in (seen, here))
            notes.append(f"the {name} was {was} in training, but is {now} in this corpus")
    return notes


def _of_each_pair(corpus: PairDataset) -> list[dict[str, float]]:
    numbers = numbers_of_pairs(corpus)
    return [dict(zip(numbers, values, strict=True)) for values in zip(*numbers.values(), strict=True)]


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def change_of_parameters(before: Path, after: Path) -> dict[str, float]:
    """||after - before|| / ||before|| of each kind of parameter, over all stages: Knoll 2019, Figure 10.

    Kinds are the last part of parameters' names: kernels, weights (of activations) and lam of the variational network.
    """
    first, last = (load_tensors(weights_file(path))[0] for path in (before, after))
    squares: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for name, tensor in first.items():
        change, size = squares[name.rpartition(".")[2]], tensor.double()
        change[0] += float((last[name].double() - size).square().sum())
        change[1] += float(size.square().sum())
    return {
        kind: (change_of_parameters / size) ** 0.5 if size else 0.0
        for kind, (change_of_parameters, size) in squares.items()
    }
