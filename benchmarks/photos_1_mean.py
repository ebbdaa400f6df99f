"""The weights of photos-1: the mean of those of two parts of its training.

    python benchmarks/photos_1_mean.py EARLIER LATER OUT      (published folders, as `fathom publish` writes them)

A network that goes on learning from other pairs becomes better on these and worse on those before. The mean of both
networks' weights keeps most of what either has (Wortsman et al., CVPR 2022, "Robust fine-tuning of zero-shot models").
Parameters that the earlier network lacks (misfit powers) count as 0, with which it gives the same images.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch

from recon.training.checkpoint import load_tensors
from recon.training.model_files import learnt_numbers, save_model
from synth.storage.arrays import sha256_of_file


def main():
    earlier, later, out = map(Path, sys.argv[1:4])
    first, first_card = load_tensors(earlier / "model.safetensors")
    weights, card = load_tensors(later / "model.safetensors")
    mean = {
        name: ((first.get(name, torch.zeros_like(weight)).double() + weight.double()) / 2).to(weight.dtype)
        for name, weight in weights.items()
    }
    shutil.copytree(later, out)
    save_model(out, mean, card | learnt_numbers(mean) | {"cg_residuals": None, "mean_with": first_card["identity"]})
    before, after = (sha256_of_file(folder / "model.safetensors") for folder in (later, out))
    for name in ("training.json", "README.md"):
        (out / name).write_text((out / name).read_text().replace(before, after))


if __name__ == "__main__":
    main()
