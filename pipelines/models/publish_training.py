"""Publish a finished training: its weights and their card, without anything that tells of the machine."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

from torch import Tensor

from recon.errors import CheckpointError
from recon.training.checkpoint import load_tensors
from recon.training.model_files import CARD, WEIGHTS, save_model, weights_file
from synth.storage.arrays import sha256_of_file
from synth.storage.place import Place
from synth.storage.whole import write_whole

from ..corpus.data_card import without_paths
from ..corpus.publish import front_matter, licence_of, new_folder, refuse_existing
from ..corpus.record import FORMAT, TRAINING
from .verify_training import verify_training

FILES = (CARD, WEIGHTS, "README.md", TRAINING)  # the last says that all are there


def publish_training(training: Place, out: Place, licence: str | None = None) -> list[str]:
    """Write a training's weights and cards into a new folder; return the names of the files.

    The folder may lie in an object store. Weights that the network uses in bfloat16 are written so, in half the bytes.

    Raises CheckpointError for a training that has not ended or is damaged, CorpusExistsError where `out` is there,
    ValueError for a licence that is no identifier.
    """
    licence = licence_of(licence or "unknown")
    checked = verify_training(training)
    if not checked["intact"]:
        raise CheckpointError(f"{training} is damaged; run `fathom verify {training}`: {checked['problems'][0]}")
    refuse_existing(out, FILES)
    weights, card = load_tensors(weights_file(training))
    card = _without_places(card)
    with new_folder(out, FILES) as folder:
        save_model(folder, _as_computed(weights, card), card)
        record = {
            "format": FORMAT,
            "name": card["name"],
            "weights": {"file": WEIGHTS, "sha256": sha256_of_file(folder / WEIGHTS)},
            "corpora": [{key: part[key] for key in ("corpus", "content_hash", "pairs")} for part in card["data"]],
            "identity": card["identity"],
            "versions": card["versions"],
            "licence": licence,
        }
        write_whole(folder / TRAINING, json.dumps(record, indent=1).encode())
        write_whole(folder / "README.md", _readme(card, record).encode())
    return sorted(FILES)


def _as_computed(weights: dict[str, Tensor], card: dict[str, Any]) -> dict[str, Tensor]:
    """Convolutions in bfloat16 where the network rounds them to it at every use, so that its images do not change."""
    if not (card["model"] or {}).get("bf16"):
        return weights
    return {name: weight.bfloat16() if weight.ndim == 4 else weight for name, weight in weights.items()}


def _without_places(card: dict[str, Any]) -> dict[str, Any]:
    """A model's card without paths: of folders, the last name stays."""
    settings = dict(card["settings"])
    data = dict(settings.get("data") or {})
    for key in ("corpora", "validation"):
        data[key] = [PurePath(path).name for path in data.get(key) or ()]
    settings |= {"data": data}
    if settings.get("start"):
        settings["start"] = PurePath(settings["start"]).name
    parts = [{**part, "recipe": without_paths(part["recipe"])} if "recipe" in part else part for part in card["data"]]
    return {**card, "settings": settings, "data": parts}


def _readme(card: dict[str, Any], record: dict[str, Any]) -> str:
    model = card["model"] or {}
    lines = front_matter(
        license=record["licence"], library_name="fathom", pipeline_tag="image-to-image",
        tags=["mri", "image-reconstruction", "fathom"],
    )  # fmt: skip
    lines += [
        f"# {card['name']}",
        "",
        f"A network ({model.get('kind', 'own')}, {card['parameters']:,} parameters) for MR image reconstruction, "
        "trained with Fathom.",
        "",
        "```sh",
        "fathom test THIS_FOLDER corpus.zarr --out test",
        "```",
        "",
        "| | |",
        "|---|---|",
        *(f"| trained on `{part['corpus']}` | {part['pairs']} pairs, content hash `{part['content_hash']}` |"
          for part in record["corpora"]),
        *(f"| began with a network that was trained on `{part['corpus']}` | content hash `{part['content_hash']}` |"
          for part in card.get("started_from") or ()),
        f"| steps | {card['steps']}, weights of step {card['step_kept']} |",
        f"| made with | {', '.join(f'{name} {version}' for name, version in record['versions'].items())} |",
        f"| sha256 of `{WEIGHTS}` | `{record['weights']['sha256']}` |",
        f"| identity of the training | `{record['identity']}` |",
        "",
        f"`{CARD}` has all settings, the recipes of the corpora, and the start of the sha256 of each of their sources: "
        "`fathom test` says whether a corpus was made from the same ones.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"
