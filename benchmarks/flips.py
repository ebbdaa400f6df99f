"""Damage of every kind, done to a corpus and to a finished training: what is found, what is mended, what stays unseen.

`flips.py [--flips 2000] [--others 10] [--seconds 3000] [--out FILE]`. One file at a time is damaged, of the corpus
three times as often as of the training; every file is equally likely, and in it every byte. After each damage,
`fathom verify` is run, and a corpus is read with `PairDataset` and a model is loaded, whatever verify says:

- found: verify names a problem, or refuses the folder in one sentence.
- not covered: verify lists the file as not covered.
- unseen: neither. crash: another exception than Fathom's. Both must be 0.
- read right: every value is as before. refused: Fathom's error. read wrong: a value differs. It must be 0.

After a swap, truncation, removal or replacement, and after every 40th flip, the same `fathom build` is run: mended
means that verify finds nothing afterwards and the content hash is the old one.
"""

from __future__ import annotations

import argparse
import collections
import json
import shutil
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from pipelines.cluster import IN_PROCESS
from pipelines.corpus.build import build
from pipelines.corpus.verify import verify
from recon.data.datasets import PairDataset
from recon.training.loop import train
from recon.training.model_files import load_model
from recon.training.settings import Training
from synth.errors import FathomError
from synth.recipe import parse_recipe
from synth.settings.toml import parse_settings

try:
    from recon.training.check import check_training
except ImportError:  # an earlier version, which has no such check: loading decides
    check_training = None

KINDS = ("flip", "swap", "truncation", "removal", "replacement")
RECIPE = {
    "name": "flips",
    "seed": 9,
    "pairs": 12,
    "shard_pairs": 3,
    "source": {"kind": "skimage"},
    "target": {"matrix": [32, 40], "fit": "resize"},
    "coils": {"kind": "loops", "count": 3, "sets": 2},
    "noise": {"snr": [20, 80]},
    "sampling": {"kind": "regular", "acceleration": 2, "reference_lines": 8},
}
TRAINING = {
    "name": "flips",
    "model": {"kind": "variational", "stages": 1, "filters": 2, "kernel": 5, "nodes": 11},
    "optimiser": {"kind": "adam"},
    "training": {"steps": 4, "batch_size": 3, "checkpoint_seconds": 0},
}


class Corpus:
    """A corpus that is damaged, and what must be read from it."""

    def __init__(self, folder):
        self.recipe = parse_recipe(RECIPE, "flips")
        self.path, self.whole = folder / "c.zarr", folder / "whole.zarr"
        self.hash = build(self.recipe, self.whole, IN_PROCESS).content_hash
        self.right = self.values(self.whole)

    def values(self, path):
        pairs = PairDataset(path)
        return [{name: tensor.clone() for name, tensor in pairs[k].items()} for k in range(len(pairs))]

    def verified(self, path):
        found = verify(path)
        return found.problems, getattr(found, "not_covered", {})

    def mended(self):
        made = build(self.recipe, self.path, IN_PROCESS)
        return made.content_hash == self.hash and verify(self.path).intact


class Model:
    """A finished training that is damaged, and the weights that must be read from it."""

    def __init__(self, folder, corpus):
        data = {"corpora": [str(corpus)], "validation": [str(corpus)]}
        self.path, self.whole = folder / "trained", folder / "whole"
        train(parse_settings(Training, {**TRAINING, "data": data}, "flips"), self.whole, device="cpu")
        self.right = self.values(self.whole)

    def values(self, path):
        model, card = load_model(path)
        return [{**model.state_dict(), "card": torch.tensor(list(json.dumps(card).encode()))}]

    def verified(self, path):
        if check_training is None:
            load_model(path)
            return [], {}
        return check_training(path)


def files_of(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def damage(kind, path, file, draw):
    """Damage one file; return the files that have changed, or None where it cannot be done to this one."""
    victim = path / file
    data = victim.read_bytes()
    if kind == "flip" and data:
        place, change = int(draw.integers(len(data))), int(draw.integers(1, 256))
        victim.write_bytes(data[:place] + bytes([data[place] ^ change]) + data[place + 1 :])
        return [file]
    if kind == "swap":  # with another file of the same size, if there is one: shards of one array, arrays of numbers
        others = [f for f in files_of(path) if f != file and (path / f).read_bytes() != data]
        alike = [f for f in others if (path / f).stat().st_size == len(data)]
        other = (alike or others)[int(draw.integers(len(alike or others)))]
        victim.write_bytes((path / other).read_bytes())
        (path / other).write_bytes(data)
        return [file, other]
    if kind == "truncation" and data:
        victim.write_bytes(data[: int(draw.integers(len(data)))])
        return [file]
    if kind == "removal":
        victim.unlink()
        return [file]
    if kind == "replacement":
        victim.write_bytes(draw.bytes(max(1, len(data))))
        return [file]
    return None


def outcome(thing, changed):
    """What verify says of the damage."""
    try:
        problems, not_covered = thing.verified(thing.path)
    except FathomError:
        return "found"
    except Exception as error:
        return f"crash: {type(error).__name__}"
    if problems:
        return "found"
    covered = [f for f in changed if not any(f.is_relative_to(name) for name in not_covered)]
    return "unseen" if covered else "not covered"


def reading(thing):
    """What a reader of the damaged folder gets."""
    try:
        values = thing.values(thing.path)
    except FathomError:
        return "refused"
    except Exception as error:
        return f"crash: {type(error).__name__}"
    same = len(values) == len(thing.right) and all(
        mine.keys() == right.keys() and all(torch.equal(mine[name], right[name]) for name in right)
        for mine, right in zip(values, thing.right, strict=True)
    )
    return "read right" if same else "read wrong"


def mending(thing):
    try:
        return "mended" if thing.mended() else "not mended"
    except FathomError:
        return "refused"
    except Exception as error:
        return f"crash: {type(error).__name__}"


def attempt(thing, kind, number, draw, table, unseen):
    files = files_of(thing.whole)
    file = files[int(draw.integers(len(files)))]
    changed = damage(kind, thing.path, file, draw)
    if changed is None:
        return False
    seen, read, where = outcome(thing, changed), reading(thing), f"{type(thing).__name__.lower()}, {kind}"
    table[where][seen] += 1
    table[where][read] += 1
    if seen not in ("found", "not covered") or read not in ("read right", "refused"):
        unseen.append(f"{where} of {', '.join(map(str, changed))}: {seen}, {read}")
    if isinstance(thing, Corpus) and (kind != "flip" or number % 40 == 0):
        result = mending(thing)
        table[where][f"build: {result}"] += 1
        if result not in ("mended", "refused"):
            unseen.append(f"{where} of {', '.join(map(str, changed))}: {seen}, {read}, {result}")
        for path in (thing.path, thing.path.with_name(f"{thing.path.name}.building")):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(thing.whole, thing.path)
    for name in changed:
        if not (thing.path / name).exists() or (thing.path / name).read_bytes() != (thing.whole / name).read_bytes():
            shutil.copyfile(thing.whole / name, thing.path / name)
    return True


def measure(folder, flips, others, seconds):
    corpus = Corpus(folder)
    things = [corpus, Model(folder, corpus.whole)]
    for thing in things:
        shutil.copytree(thing.whole, thing.path)
        assert (outcome(thing, [Path("x")]), reading(thing)) == ("unseen", "read right")  # nothing is damaged yet
    many = [len(files_of(thing.whole)) for thing in things]
    draw, table, unseen = np.random.default_rng(2026), collections.defaultdict(collections.Counter), []
    started, done = time.monotonic(), collections.Counter()
    for kind in reversed(KINDS):
        wanted = flips if kind == "flip" else others * len(things)
        while done[kind] < wanted and time.monotonic() - started < seconds:
            thing = things[int(done[kind] % 4 == 0) if kind == "flip" else done[kind] % 2]
            done[kind] += attempt(thing, kind, done[kind], draw, table, unseen)
    return {
        "attempts": dict(done),
        "files": dict(zip(("corpus", "training"), many, strict=True)),
        "table": {where: dict(sorted(counts.items())) for where, counts in table.items()},
        "wrong": unseen,
        "seconds": round(time.monotonic() - started, 1),
    }


def main():
    parser = argparse.ArgumentParser()
    for name, default in (("flips", 2000), ("others", 10), ("seconds", 3000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "flips.json")
    told = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), told.flips, told.others, told.seconds)
    for where, counts in found["table"].items():
        print(f"{where:24}" + "  ".join(f"{name} {count}" for name, count in counts.items()))
    print(*found["wrong"][:20], sep="\n")
    print(f"{sum(found['attempts'].values())} attempts in {found['seconds']} s")
    told.out.parent.mkdir(parents=True, exist_ok=True)
    told.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
