"""Pairs per second into training code: Fathom's loader against a fastMRI-style HDF5 file of the same pairs.

The HDF5 side is what fastMRI's dataset does: full k-space of one slice by h5py (the file kept open), times the mask, as
tensors. Neither side gives coil maps (fastMRI's file has none). Warm cache: everything is read once before.
"""

from __future__ import annotations

import statistics
import time

import h5py
import torch
from building import RECIPE
from torch.utils.data import DataLoader, Dataset

from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from recon.data.datasets import PairDataset
from recon.data.loader import make_loader
from synth.recipe import load_recipe


class FullHdf5(Dataset):
    def __init__(self, path, length):
        self.path, self.length, self.file = path, length, None

    def __len__(self):
        return self.length

    def __getitem__(self, position):
        if self.file is None:
            self.file = h5py.File(self.path)
        kspace, target, mask = (torch.from_numpy(self.file[n][position]) for n in ("kspace", "target", "mask"))
        return {"masked_kspace": kspace * mask, "mask": mask, "target": target, "max_value": target.abs().max()}


def write_hdf5(path, pairs):
    with h5py.File(path, "w") as file:
        for k, item in enumerate(pairs):
            values = {"kspace": item["masked_kspace"], "target": item["target"], "mask": item["mask"].flatten()}
            for name, value in values.items():
                if k == 0:
                    file.create_dataset(name, (len(pairs), *value.shape), value.numpy().dtype)
                file[name][k] = value.numpy()


def rate(items, length):
    start = time.perf_counter()
    assert sum(1 for _ in items) == length
    return length / (time.perf_counter() - start)


def measure(folder, photos, count=200, rounds=3):
    torch.set_num_threads(1)
    changes = [f"source.path={photos}", f"pairs={count}", "target.readout_oversampling=1"]
    build(load_recipe(RECIPE, changes), folder / "pairs.zarr", ClusterSpec())
    pairs = PairDataset(folder / "pairs.zarr", with_maps=False)
    write_hdf5(folder / "full.h5", pairs)
    full = FullHdf5(folder / "full.h5", count)
    ways = {
        "one process, hdf5": lambda: (full[k] for k in range(count)),
        "one process, fathom items": lambda: (pairs[k] for k in range(count)),
        "one process, fathom loader (default)": lambda: make_loader(pairs, device="cpu"),
        "DataLoader of two workers, hdf5": lambda: DataLoader(FullHdf5(full.path, count), batch_size=1, num_workers=2),
        "DataLoader of two workers, fathom items": lambda: DataLoader(pairs, batch_size=1, num_workers=2),
        "make_loader(workers=2)": lambda: make_loader(pairs, device="cpu", workers=2),
        "make_loader(threads=2)": lambda: make_loader(pairs, device="cpu", threads=2),
    }
    rates = {name: [] for name in ways}
    for k in range(rounds + 1):
        for name, make in ways.items():
            value = rate(make(), count)
            if k > 0:  # the first round warms the cache
                rates[name].append(value)
    found = {name: round(statistics.median(values), 1) for name, values in rates.items()}
    default = found["one process, fathom loader (default)"]
    ratios = {
        "items over hdf5, one process": found["one process, fathom items"] / found["one process, hdf5"],
        "default loader over hdf5, one process": default / found["one process, hdf5"],
        "items over hdf5, DataLoader of two workers": found["DataLoader of two workers, fathom items"]
        / found["DataLoader of two workers, hdf5"],
        "make_loader(workers=2) over hdf5, DataLoader of two workers": found["make_loader(workers=2)"]
        / found["DataLoader of two workers, hdf5"],
        "default loader over hdf5, DataLoader of two workers": default / found["DataLoader of two workers, hdf5"],
    }
    return {**found, "ratios": {name: round(value, 2) for name, value in ratios.items()}}
