"""Arguments of a command that may be swapped: each is of the kind that the other should be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recon.models.catalogue import BASELINES
from recon.training.model_files import WEIGHTS
from recon.training.own_model import SOURCE
from synth.storage.place import Place, place_of

from ..ready.kinds import kind_of
from ..ready.names import ready_networks


def refuse_swapped_scan(model: str, scan: Path) -> None:
    """Raise ValueError where a scan, or a folder of scans, stands in the place of a model, and a model in its place."""
    if _is_model(str(scan)) and not _is_model(model) and Path(model).exists():
        raise ValueError(
            f"{model} is no model, and {scan} is one: the arguments may be swapped; write "
            f"`fathom reconstruct {scan} {model}`"
        )


def refuse_swapped_corpus(models: Sequence[str], corpus: str) -> None:
    """Raise ValueError where the corpus, which comes last, is a model or missing, or where a model is a corpus."""
    corpora = [name for name in models if kind_of(place_of(name)) == "a corpus"]
    first = " ".join(name for name in (*models, corpus) if name not in corpora)
    if not _is_model(corpus):
        if corpora:
            raise ValueError(
                f"{corpora[0]} is a corpus in the place of a model; a test is on one corpus, the last argument"
            )
        return
    if not corpora:
        raise ValueError(f"{corpus} is a model; the corpus comes last: `fathom test {first} CORPUS`")
    raise ValueError(
        f"{corpora[0]} is a corpus, and {corpus} is a model: the arguments may be swapped, since the corpus comes "
        f"last; write `fathom test {first} {corpora[0]}`"
    )


def _is_model(name: str) -> bool:
    """Whether a name is that of a baseline, a network or a user's code, by its looks: no file is read."""
    if name.partition(":")[0] in BASELINES or SOURCE.fullmatch(name):
        return True
    place: Place = place_of(name)
    if not place.exists():
        return name in ready_networks()
    return place.name.endswith(".safetensors") or (place / WEIGHTS).exists()
