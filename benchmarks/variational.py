"""One training step of Knoll's whole network (10 stages, 24 filters of 11x11): time and memory, beside its formulas.

.venv/bin/python benchmarks/variational.py

The formulas are the papers', under torch's autograd, as one writes them down: the sum of Gaussians is written out, the
Fourier transform is along both axes. Each is measured in a process of its own; memory is the growth of the process's
peak during the step.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

import torch

from recon.models.variational import VariationalNetwork, symmetric_pad
from synth.physics import sense_adjoint, sense_forward
from synth.process import keep_memory

SIZES = ((8, 128, 128), (15, 320, 368))


def batch_of(coils, rows, columns):
    draw = torch.Generator().manual_seed(0)
    maps = torch.randn(1, coils, rows, columns, dtype=torch.complex64, generator=draw)
    maps /= maps.abs().square().sum(1, keepdim=True).sqrt()
    line = torch.arange(columns) - columns // 2
    mask = ((line % 4 == 0) | ((line >= -12) & (line < 12))).view(1, 1, 1, -1)
    target = torch.randn(1, rows, columns, dtype=torch.complex64, generator=draw)
    return {"masked_kspace": sense_forward(target, maps, mask), "sens_maps": maps, "mask": mask, "target": target}


def formulas(network, batch):
    """The network as papers.md and the authors' code have it, with the parameters of `network`."""
    spec, mask, maps = network.spec, batch["mask"], batch["sens_maps"]
    sigma, factor = network.table.sigma, network.table.factor
    centres = torch.linspace(-1, 1, spec.nodes)
    start = sense_adjoint(batch["masked_kspace"], maps, mask)
    norm = start.abs().max()
    data, u = batch["masked_kspace"] / norm, start / norm
    for stage in network.stages:
        padded = symmetric_pad(torch.stack([u.real, u.imag], dim=1), spec.kernel)
        response = torch.nn.functional.conv2d(padded, stage.kernels, padding=spec.kernel // 2)
        activated = 0
        for j in range(spec.nodes):
            weight = stage.weights[:, j].view(1, -1, 1, 1)
            activated = activated + factor * weight * torch.exp(-((response - centres[j]) ** 2) / (2 * sigma**2))
        back = torch.nn.functional.conv_transpose2d(activated, stage.kernels, padding=spec.kernel // 2)
        back = back[..., spec.kernel : -spec.kernel, spec.kernel : -spec.kernel] / spec.filters
        difference = sense_adjoint(sense_forward(u, maps, mask) - data, maps, mask)
        u = u - torch.complex(back[:, 0], back[:, 1]) - stage.lam * difference
    return u * norm


def measure(way, size, repeats):
    keep_memory()
    network, batch = VariationalNetwork(), batch_of(*size)
    run = network if way == "fathom" else lambda b: formulas(network, b)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(repeats + 1):
        network.zero_grad()
        started = time.perf_counter()
        image = run(batch)
        loss = (image.abs() - batch["target"].abs()).square().sum()
        loss.backward()
        seconds.append(time.perf_counter() - started)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    gradient = torch.cat([p.grad.flatten() for p in network.parameters()]).norm().item()
    return {"seconds": min(seconds[1:]), "peak_MB": peak, "loss": loss.item(), "gradient": gradient}


def main():
    results = {"threads": torch.get_num_threads()}
    for size in SIZES:
        name = "x".join(map(str, size))
        found = {}
        for way, repeats in (("fathom", 5), ("formulas", 2)):
            command = [sys.executable, __file__, way, *map(str, size), str(repeats)]
            found[way] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        found["times faster"] = round(found["formulas"]["seconds"] / found["fathom"]["seconds"], 1)
        found["times less memory"] = round(found["formulas"]["peak_MB"] / found["fathom"]["peak_MB"], 1)
        results[name] = found
        print(name, json.dumps(found, indent=2), flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        way, *numbers = sys.argv[1:]
        *size, repeats = map(int, numbers)
        print(json.dumps(measure(way, size, repeats)))
    else:
        main()
