"""Measures on a GPU: time by its own events, kernels, waits, memory; and a report that is written part by part."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
import traceback
import warnings
from collections import Counter

import numpy as np
import torch

from recon.models.cuda_graphs import FLAG
from synth.physics import sense_forward


class Report:
    """Runs parts, each guarded, and writes what they return, or why they failed, to a JSON file after each."""

    def __init__(self, path, budget, only, device):
        self.path, self.budget, self.only, self.device = path, budget, only, device
        self.began, self.found = time.monotonic(), {"seconds": {}}

    def part(self, name, needs):
        """A decorator that runs a part now; `needs` is about how many seconds it takes."""

        def run(function):
            if self.only and name not in self.only:
                return
            left, began = self.budget - (time.monotonic() - self.began), time.monotonic()
            try:
                self.found[name] = function() if left > needs else f"left out: {left:.0f} s left of {self.budget:.0f}"
            except Exception as error:  # a part must not end the others
                self.found[name] = {"failed": repr(error)[:600], "trace": traceback.format_exc()[-2500:].splitlines()}
            if self.device.type == "cuda":
                torch.cuda.synchronize()
                torch.cuda.empty_cache()
            self.found["seconds"][name] = round(time.monotonic() - began, 1)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.found, indent=1) + "\n")
            print(f"[{time.monotonic() - self.began:6.1f} s] {name}: {json.dumps(self.found[name])[:1800]}", flush=True)

        return run

    def end(self):
        """A last line."""
        return f"{time.monotonic() - self.began:.0f} s; {self.path}"


@contextlib.contextmanager
def eager():
    """Without CUDA graphs."""
    before = os.environ.get(FLAG)
    os.environ[FLAG] = "0"
    try:
        yield
    finally:
        del os.environ[FLAG]
        if before is not None:
            os.environ[FLAG] = before


def quartiles(function, repeats=10, warm=3):
    """Median, and first and third quartile, of milliseconds."""
    for _ in range(warm):
        function()
    each = []
    for _ in range(repeats):
        if torch.cuda.is_available():
            a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda.synchronize()
            a.record()
            function()
            b.record()
            b.synchronize()
            each.append(a.elapsed_time(b))
        else:
            began = time.perf_counter()
            function()
            each.append(1e3 * (time.perf_counter() - began))
    low, middle, high = (round(float(np.quantile(each, q)), 3) for q in (0.25, 0.5, 0.75))
    return {"ms": middle, "quartiles": [low, high]}


def profiled(function, device):
    """The number of kernels, their time, and the kernels that took most of it."""
    if device.type != "cuda":
        return {}
    from torch.profiler import ProfilerActivity, profile

    function()
    torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            function()
            torch.cuda.synchronize()
    total = Counter()
    count = 0
    for event in seen.events():
        if event.device_type == torch.autograd.DeviceType.CUDA and not event.name.startswith("Optimizer."):
            total[event.name[:60]] += event.time_range.elapsed_us() / 1e3
            count += 1
    top = {name: round(ms, 2) for name, ms in total.most_common(8)}
    return {"kernels": count, "kernel ms": round(sum(total.values()), 2), "top": top}


def waits(function, device):
    """Where the host waits, by torch's own account."""
    if device.type != "cuda":
        return {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            function()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places = (f"{w.filename.rpartition('/')[2]}:{w.lineno}" for w in caught if "synchroniz" in str(w.message))
    return dict(Counter(places))


def memory(function, device):
    """The peak of what the call allocates, in MB."""
    if device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    function()
    torch.cuda.synchronize()
    return round(torch.cuda.max_memory_allocated() / 1e6)


def batch_of(count, size, device, *, points, seed=0):
    """A batch that is consistent: maps of norm 1, an image, its samples with noise. Size is coils, rows, columns."""
    coils, rows, columns = size
    draw = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns), indexing="ij")
    angles = (torch.arange(coils) * 2 * math.pi / coils)[:, None, None]
    maps = torch.exp(-((y - angles.cos()) ** 2) - (x - angles.sin()) ** 2) * torch.exp(1j * (angles + y))
    maps = (maps / maps.abs().square().sum(0).sqrt())[None].repeat(count, 1, 1, 1)
    image = (1 + torch.cos(7 * y + 3 * x) * torch.sin(5 * x)) * torch.exp(1j * (2 * y - x))
    image = image[None] * (1 + 0.1 * torch.rand((count, 1, 1), generator=draw))
    mask = torch.zeros(count, 1, rows if points else 1, columns, dtype=torch.bool)
    if points:
        mask[..., ::2, ::2] = True
    else:
        half = min(12, columns // 8)
        mask[..., ::4] = True
        mask[..., columns // 2 - half : columns // 2 + half] = True
    noise = torch.complex(*torch.randn((2, count, coils, rows, columns), generator=draw)) * 0.01
    numbers = {"scale": 1.0, "sigma": 0.01, "acceleration": 4.0}
    items = {
        "masked_kspace": sense_forward(image, maps, mask) + noise * mask,
        "mask": mask,
        "sens_maps": maps,
        "target": image,
        "max_value": image.abs().amax((-2, -1)),
        "pair_id": torch.arange(count),
        **{name: torch.full((count,), value) for name, value in numbers.items()},
    }
    return {name: t.to(device) for name, t in items.items()}
