"""The code blocks of the README and the documents: found in reading order, and run as printed or at smoke size.

Words after a block's language say what it is: ``file=NAME`` is its file, ``needs=KIND`` what must be there that neither
a clone nor `prepare` has, and ``takes=hours`` that it runs at smoke size alone. ``make examples`` runs the blocks as
printed in a folder, where stand-ins take the place of data.
"""

import os
import re
import resource
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import scipy.io
from conftest import ROOT, write_photos
from properties import complex_normal

from synth.physics import fft2c
from synth.stages.coils import LoopsSpec, draw_coils

DOCS = ROOT / "docs"
WORKED = DOCS / "extending.md"  # its examples change the code; `test_extending` applies them to a copy
NEEDS = {  # what blocks need beyond `prepare`, and what runs them
    "make": "the commands that call this; .ci/run calls them",
    "hours": "a long training, or data that only its user has",
    "peers": "other projects' packages; make peers",
    "cluster": "a cluster; tests/pipelines/test_growing_cluster.py runs these with stand-ins",
    "store": "an object store; tests/pipelines/corpus/test_object_store.py",
    "nifti": "NIfTI volumes in data/mr; make studies",
    "fastmri": "a public data set; tests/pipelines/public_data/test_manifests.py",
    "torchrun": "two processes; tests/recon/training has tests of them",
}
BLOCK = re.compile(r"^```(\w+)((?: \S+)*)\n(.*?)^```$\n*(\*Needs .*?\.\*$)?", re.MULTILINE | re.DOTALL)
TOLD = re.compile(r"\*Needs .+;\s+takes .+;\s+(makes|prints)\s.+\.\*", re.DOTALL)
SMALL = ["pairs=4", "target.matrix=[48, 56]", "sampling.reference_lines=8"]
DEMO = [*SMALL, "target.matrix=[64, 64]", "coils.count=4", "coils.sets=2", "coils.distance=[0.8, 0.9]"]
SMOKE = {  # changes that make a command small, by its name and first argument
    "build demo": DEMO,
    "build holiday.toml": SMALL,
    "build first": [*SMALL, "target.matrix=[64, 64]"],
    "build knoll2019-17": [*SMALL, "coils.sets=2"],
    "train first": ["training.steps=2", "model.iterations=2"],
    "train little.toml": ["training.steps=2", "model.channels=4", "model.levels=1", "model.iterations=2"],
}


@dataclass(frozen=True)
class Block:
    """One block of code, and the sentence below it that says what it needs, how long it takes and what it gives."""

    page: Path
    line: int
    language: str
    words: dict
    code: str
    told: str

    @property
    def place(self):
        """Where it stands."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages():
    """The README, and the documents in the order of the site's contents."""
    trees = re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL)
    names = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    return [ROOT / "README.md", DOCS / "index.md", *(DOCS / f"{name}.md" for name in names)]


def blocks(page):
    """The blocks of a page, in order."""
    text = page.read_text()
    for found in BLOCK.finditer(text):
        words = dict(word.split("=", 1) for word in found[2].split())
        yield Block(page, text[: found.start()].count("\n") + 1, found[1], words, found[3], found[4] or "")


def all_blocks():
    """All blocks that a reader may run or save, in reading order, but for those that change the code.

    The tutorials have a test of their own, `test_tutorials.py`.
    """
    run_here = [page for page in pages() if page != WORKED and page.parent.name != "tutorials"]
    return [b for page in run_here for b in blocks(page) if b.language in ("sh", "python", "toml")]


def commands(block):
    """The lines of a block of commands, as words."""
    lines = block.code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def smoke(words):
    """A `fathom` command at smoke size, in this process: no clusters, a few small pairs, two steps."""
    changes = SMOKE.get(" ".join(words[1:3]), ())
    out = [*words[1:], *(word for change in changes for word in ("--set", change))]
    if words[1] in ("build", "rebuild", "coils"):
        out += ["--scheduler", "sync"]
    if words[1] == "study" and "--scale" not in words:
        out += ["--scale", "smoke"]
    if words[1:3] == ["study", "referee"]:
        out += ["--only", "test/mine/on/heads"]
    return out


def write_scan(path, coils=6, shape=(96, 80), slices=1, seed=0):
    """A disc with texture, as the suffix of the path says: .npy, .mat or fastMRI's .h5."""
    draw = np.random.default_rng(seed)
    y, x = (np.linspace(-1, 1, n) for n in shape)
    disc = ((y[:, None] / 0.7) ** 2 + (x / 0.6) ** 2 < 1) * (1.5 + np.cos(9 * y)[:, None] * np.cos(7 * x))
    seen = (disc * draw_coils(LoopsSpec(count=coils), 1, 0).maps(shape)).astype(np.complex64)
    kspace = np.stack([fft2c(seen) + 0.02 * complex_normal(draw, coils, *shape) for _ in range(slices)])
    if path.suffix == ".npy":
        np.save(path, kspace)
    elif path.suffix == ".mat":
        scipy.io.savemat(path, {"kData": kspace[0].transpose(1, 2, 0)})
    else:
        with h5py.File(path, "w") as file:
            file["kspace"] = kspace.astype(np.complex64)


def prepare(folder, size):
    """Stand-ins for the data that the blocks name."""
    write_photos(folder / "BSDS500" / "train", count=12, size=size)
    (folder / "scans").mkdir()
    for k in range(2):
        write_scan(folder / "scans" / f"{k}.npy", slices=2, seed=k)
    write_scan(folder / "kdata.mat")
    write_scan(folder / "brain.h5", slices=2)


def run_as_printed(block, folder):
    """Run a block as a reader would; returns its seconds and those of processors, or None where it is not run."""
    if name := block.words.get("file"):
        (folder / name).write_text(block.code)
    if block.words.keys() & {"needs", "takes"} or block.language == "toml":
        return None
    surroundings = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    how = ["bash", "-euc", block.code] if block.language == "sh" else [sys.executable, "-c", block.code]
    begun, used = time.monotonic(), processor()
    subprocess.run(how, cwd=folder, env=surroundings, check=True)
    return time.monotonic() - begun, processor() - used


def processor():
    """Processor seconds of all commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(folder):
    """Run all blocks as printed, and say how long each took."""
    folder.mkdir(parents=True)
    prepare(folder, (321, 481))
    told = []
    for block in all_blocks():
        print(f"--- {block.place}", flush=True)  # noqa: T201
        took = run_as_printed(block, folder)
        reason = NEEDS.get(block.words.get("needs"), "takes hours" if "takes" in block.words else "a file")
        told.append(
            f"{block.place:28}" + ("{:7.0f} s{:7.0f} s of processors".format(*took) if took else f" not run: {reason}")
        )
    print("\n".join(["", *told]))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
