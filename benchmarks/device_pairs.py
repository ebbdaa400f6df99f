"""Pairs made on a device: measured back, compared with the line's, independent of batches, and pairs per second.

    python benchmarks/device_pairs.py --photos BSDS/train --pictures FOLDER_OF_VOLUMES --device cuda

``--device cpu`` makes a GPU's pairs on one core. Parts (``--only``): ``speed``, ``batches``, ``measured``, ``law``.

- speed: 15 coils, 320x368, no oversampling, photographs on the device, the second epoch; beside the line on one core
- batches: the largest difference between pairs of batches of 1, 7 and 32 and of two ranks, over the largest value
- measured: of each ready recipe for photographs, sigma and SNR from the arrays against the stored numbers, the
  covariance between coils where the reference is clean, and net accelerations against those of the line
- law: two-sample Kolmogorov-Smirnov tests against the line with another seed, of noise, phase ranges and measured SNRs
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import scipy.stats
import torch

from recon.data.datasets import VirtualPairs
from recon.data.device_pairs import DevicePairs
from recon.data.loader import make_loader
from recon.evaluation.measured_noise import measured
from synth.physics import sense_forward
from synth.recipe import load_recipe
from synth.rng import rng

RECIPES = Path(__file__).resolve().parents[1] / "pipelines" / "ready" / "recipes"
PHOTOS = ("knoll2019-17", "knoll2019-photos", "laptop", "nickel-2x2", "demo")
PICTURES = ("knoll2019-target",)


def ready(name, given, *changes):
    """A ready recipe with the sources that were given; without them, the photographs of scikit-image."""
    path = given.pictures if name in PICTURES else given.photos
    if path and name != "demo":
        changes = (f"source={{kind = 'images', path = '{path}'}}", *changes)
    else:  # some of them are too small to be cropped
        changes = ("source={kind = 'skimage'}", "target.fit=resize", *changes)
    return load_recipe(RECIPES / f"{name}.toml", changes)


def batches(pairs, size, device, **how):
    return make_loader(pairs, size, device=device, **{"shuffle": False, **how})


def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def speed(given):
    recipe = ready(
        "knoll2019-17", given, "target.readout_oversampling=1", f"pairs={64 if given.device == 'cpu' else 200}"
    )
    torch.set_num_threads(1)
    line = VirtualPairs(recipe).plan
    some = range(16)
    rates = {}
    for name, make in (("line, pair alone", line.pair), ("line, item", VirtualPairs(recipe).__getitem__)):
        for k in some:
            make(k)
        start = time.perf_counter()
        for k in some:
            make(k)
        rates[f"{name}, one core"] = len(some) / (time.perf_counter() - start)
    for size in (1, 8, 32):
        loader = batches(DevicePairs(recipe, device="cuda"), size, given.device)
        for _ in loader:  # photographs and maps reach the device
            pass
        epochs = 1 if given.device == "cpu" else 10
        wait(given.device)
        start = time.perf_counter()
        for _ in range(epochs):
            for _ in loader:
                pass
        wait(given.device)
        rates[f"{given.device}, batch {size}"] = epochs * len(line) / (time.perf_counter() - start)
    for name, rate in rates.items():
        print(f"speed     {name:28} {rate:10.1f} pairs/s")


def collected(pairs, size, device, **how):
    return {
        int(batch["pair_id"][k]): {name: value[k].cpu() for name, value in batch.items()}
        for batch in batches(pairs, size, device, **how)
        for k in range(len(batch["pair_id"]))
    }


def same(given):
    recipe = ready("knoll2019-17", given, "pairs=32")
    alone = collected(DevicePairs(recipe, device="cuda"), 1, given.device)
    ways = {f"batches of {size}": collected(DevicePairs(recipe, device="cuda"), size, given.device, shuffle=True)
            for size in (7, 32)}  # fmt: skip
    ways["two ranks"] = {}
    for rank in range(2):
        pairs = DevicePairs(recipe, device="cuda")
        ways["two ranks"] |= collected(pairs, 8, given.device, rank=rank, world_size=2)
    for name, found in ways.items():
        worst = max(
            float((item[key] - alone[k][key]).abs().max() / alone[k][key].abs().max())
            for k, item in found.items()
            for key in ("masked_kspace", "target", "sigma", "sens_maps")
        )
        print(f"batches   {name:16} {len(found)} pairs, largest difference {worst:.1e}")


def numbers_of(batch):
    """Items of a batch as arrays."""
    for k in range(len(batch["pair_id"])):
        yield {name: value[k].cpu().numpy() for name, value in batch.items()}


def measure(given):
    for name in (*PHOTOS, *PICTURES):
        recipe = ready(name, given, f"pairs={given.pairs}")
        pairs, plan = DevicePairs(recipe, device="cuda"), VirtualPairs(recipe).plan
        noisy, by_image = recipe.target.reference == "noisy", recipe.noise.definition == "image"
        found, problems, wrong_masks = [], [], 0
        for batch in batches(pairs, 8, given.device):
            for item in numbers_of(batch):
                index, size = int(item["pair_id"]), item["mask"].shape[-1]
                snr = recipe.noise.draw_snr(rng(recipe.seed, "snr", index)) if by_image else None
                found.append(measured(item, snr, noisy=noisy))
                rows = recipe.target.readout(item["target"].shape).samples
                drawn = plan.recipe.sampling.draw(rng(recipe.seed, "sampling", index), (rows, size))
                wrong_masks += not np.isclose(drawn.net_acceleration, item["acceleration_net"], rtol=1e-6)
        problems = [f.problem for f in found if f.problem is not None]
        errors = np.array([(f.sigma_found / f.sigma - 1) / f.error for f in found])
        normal = np.concatenate([f.normal[:: max(1, len(found) // 64)] for f in found])
        snr = max((abs(f.snr_found / f.snr - 1) for f in found if f.snr is not None), default=np.nan)
        worst = max(abs(f.sigma_found / f.sigma - 1) for f in found)
        print(
            f"measured  {name:17} {len(found)} pairs, {len(problems)} problems; sigma off by at most {worst:.4f} "
            f"({errors.mean():+.2f} +- {errors.std():.2f} standard errors), image SNR by {snr:.4f}; "
            f"noise normal p = {scipy.stats.kstest(normal, 'norm').pvalue:.2f}; "
            f"{wrong_masks} net accelerations differ; {white(recipe, given)}",
            flush=True,
        )


def white(recipe, given, count=8):
    """Largest correlation between coils of noise with a clean reference, in standard deviations of chance."""
    target = recipe.target.model_copy(update={"reference": "clean"})
    pairs = DevicePairs(recipe.model_copy(update={"target": target, "pairs": count}), device="cuda")
    products, samples = 0, 0
    for batch in batches(pairs, 1, given.device):
        model = sense_forward(batch["target"], batch["sens_maps"], batch["mask"])
        noise = (batch["masked_kspace"] - model)[0] / batch["sigma"]
        noise = noise.flatten(1)[:, batch["mask"].expand(1, 1, *noise.shape[1:]).flatten()]
        products, samples = products + (noise @ noise.mH).cpu() / 2, samples + noise.shape[1]
    off = (products / samples - torch.eye(len(products))).abs()
    return f"coils correlate by at most {float(off.max()) * samples**0.5:.1f} deviations"


def law(given):
    changes = f"pairs={given.pairs}", "phase.kind=sinusoidal", "coils.count=8", "noise.definition=image"
    recipe = ready("knoll2019-17", given, "target.matrix=[128, 128]", "sampling.reference_lines=12", *changes)
    other = recipe.model_copy(update={"seed": recipe.seed + 1})
    drawn = {}
    for name, pairs in (("device", DevicePairs(recipe, device="cuda")), ("line", VirtualPairs(other))):
        found = [measured(item, None, noisy=True) for b in batches(pairs, 8, given.device) for item in numbers_of(b)]
        if name == "device":
            batch = pairs.packed(range(len(pairs)))
            ranges = [float(np.ptp(a @ b.T)) for a, b in zip(batch.left.numpy(), batch.right.numpy(), strict=True)]
        else:
            made = (other.phase.draw(rng(other.seed, "phase", k)) for k in range(len(pairs)))
            ranges = [float(np.ptp(phase.radians((128, 128)))) for phase in made]
        drawn[name] = {
            "noise": np.concatenate([f.normal[::40] for f in found]),
            "phase ranges": np.array(ranges),
            "image SNRs": np.array([f.snr_found for f in found]),
        }
    for what, values in drawn["device"].items():
        test = scipy.stats.ks_2samp(values, drawn["line"][what])
        print(f"law       {what:13} {len(values):6} numbers each: D = {test.statistic:.4f}, p = {test.pvalue:.2f}")


PARTS = {"speed": speed, "batches": same, "law": law, "measured": measure}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", help="a folder of photographs; by default those of scikit-image")
    parser.add_argument("--pictures", help="a folder of NIfTI volumes for knoll2019-target")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    print(torch.cuda.get_device_name() if arguments.device == "cuda" else "one core, a GPU's pairs on a CPU")
    for part in arguments.only:
        PARTS[part](arguments)
