"""A model by its name: a trained network's folder, a baseline, or a file of a user's own code."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recon.errors import CheckpointError, ModelError
from recon.models.catalogue import BASELINES, Reconstruction, named_baseline
from recon.training.model_files import load_model, weights_file
from recon.training.own_model import is_own, load_own, own_file, own_history, own_identity
from recon.training.process_group import local_device
from synth.given import refuse_other_type
from synth.settings.nearest import nearest
from synth.storage.arrays import sha256_of_file
from synth.storage.place import Place, place_of

from ..ready.names import ready_networks

LABEL = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")  # as a study names its models


def model_named(name: str, device: str | None = None) -> tuple[Reconstruction, dict[str, Any]]:
    """A network or a baseline by its name, and its card.

    Parameters
    ----------
    name
        A name of `fathom models`, such as "photos-1" or "cg-sense:10"; the folder of a training; or FILE.py:FACTORY,
        which runs the code of this file.
    device
        The network's device: "cpu", "cuda" or "cuda:1"; by default the GPU where there is one.

    Returns
    -------
    The model, called as ``model(batch) -> image`` [batch y x], and its card, which is empty for a baseline.

    Raises
    ------
    CheckpointError
        There is no model of this name, or its files are damaged.
    ModelError
        The file of code makes no model.
    ValueError
        There is no such device.
    """
    refuse_other_type(name, str, "model_named takes a name, such as 'photos-1'")
    baseline = named_baseline(name)
    if baseline is not None:
        return baseline, {}
    if is_own(name):
        own = load_own(name, local_device(device))
        if hasattr(own.made, "eval"):
            own.made.eval()
        return own, {"name": name.partition(",")[0], "model": own.card, **own_history(name)}
    return load_model(trained(name), local_device(device))


def identity_of(name: str) -> str:
    """What tells the model of a name from all others: a baseline's name, or the sha256 of weights or of own code.

    Raises as `model_named` does, without reading the network or running the code.
    """
    if named_baseline(name) is not None:
        return name
    return own_identity(name) if is_own(name) else sha256_of_file(weights_file(trained(name)))


def trained(name: str) -> Place:
    """The folder or file of a trained network, by its place or by its name; raises CheckpointError with the names."""
    ready = ready_networks()
    if place_of(name).exists():
        return place_of(name)
    if name in ready:
        return ready[name]
    if name.partition(":")[0] in BASELINES:
        raise CheckpointError(
            f"{name} is a baseline, which has no weights; give {', '.join(ready)} or the folder of a training"
        )
    if ".py:" in name:
        raise CheckpointError(f"{name}: write FILE.py:FACTORY, or FILE.py:FACTORY,WEIGHTS without spaces")
    known = [*ready, *BASELINES]
    meant = _meant(name, known)
    raise CheckpointError(
        f"{name}: no such folder, and no network or baseline of that name; those are {', '.join(known)}; "
        + (f"did you mean {meant}?" if meant else "a network of your own is FILE.py:FACTORY")
    )


def _meant(name: str, known: list[str]) -> str:
    """The known name that a misspelt one resembles, with its number after the colon; "" where none does."""
    kind, colon, number = name.partition(":")
    near = nearest(kind, known)
    return near + (colon + number) * (near in BASELINES) if near else ""


def labelled(text: str) -> tuple[str, str]:
    """Label and name of ``label=name``; a name without a label is its own label.

    Raises ModelError where a baseline's number stands after an equals sign.
    """
    found = re.fullmatch(r"(?P<label>[A-Za-z0-9][\w.+ -]*)=(?P<name>.+)", text)
    if found is None or Path(text).exists():
        return text, text
    meant = f"{found['label']}:{found['name']}"
    if found["label"] in BASELINES and re.fullmatch(r"[\d.eE+-]+", found["name"]):
        raise ModelError(f"{text}: the number of a baseline comes after a colon, as in {meant}; LABEL=MODEL is a label")
    return found["label"], found["name"]


def labelled_models(texts: list[str]) -> dict[str, str]:
    """A user's models by their labels: of own code, ``label=FILE.py:FACTORY[,WEIGHTS]``, or a trained network.

    Raises ModelError or CheckpointError.
    """
    found: dict[str, str] = {}
    for text in texts:
        label, name = labelled(text)
        if label == text or not LABEL.fullmatch(label) or name.endswith(".py"):
            raise ModelError(
                f"--model {text}: write LABEL=FILE.py:FACTORY or LABEL=FOLDER of a training, with small letters, "
                "digits and hyphens in LABEL"
            )
        if label in found:
            raise ModelError(f"--model {text}: the label '{label}' is used twice; give each model its own")
        identity_of(name)  # raises where there is no such model
        found[label] = name
    return found


def try_own(names: Iterable[str]) -> None:
    """Run each file of code, so that what is wrong with it is told before hours of other work; raises ModelError."""
    for name in filter(is_own, names):
        load_own(name)


def runs_code(names: list[str]) -> list[str]:
    """One sentence for each name of a model whose file of code will be run."""
    files = dict.fromkeys(own_file(name) for name in names if is_own(name))
    return [f"runs the code in {file}" for file in files]
