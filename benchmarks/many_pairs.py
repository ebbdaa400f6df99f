"""Time per pair and peak memory of planning, writing, finishing, opening and verifying corpora of many tiny pairs.

Pairs have two coils and 16x16 or 16x18 pixels. So that the corpus machinery is measured and not the synthesis, one pair
of each shape is synthesised, and stored with another index and another source in place of the others; digests, ledger,
numbers and checks are those of any corpus. With --real the pairs are synthesised. Each step runs in a process of its
own; its memory is the peak, less what the imports took.

    python benchmarks/many_pairs.py 1000 10000 100000
    python benchmarks/many_pairs.py --real 10000
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
STEPS = ("plan", "write", "finish", "open", "verify")


def recipe(folder, pairs):
    from synth.recipe import parse_recipe

    data = {
        "name": "tiny",
        "seed": 3,
        "pairs": pairs,
        "source": {"kind": "images", "path": str(folder / "photos")},
        "target": {"matrix": [[16, 16], [16, 18]]},
        "phase": {"kind": "sinusoidal"},
        "coils": {"kind": "loops", "count": 2, "sets": 2},
        "noise": {"snr": [20, 80]},
        "sampling": {"kind": "regular", "acceleration": 2, "reference_lines": 4},
    }
    return parse_recipe(data, "tiny")


def write_photos(folder, count=64):
    import numpy as np
    from PIL import Image

    folder.mkdir()
    for k in range(count):
        image = np.random.default_rng(k).integers(40, 255, (24, 28)).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{k:03d}.png")


def copies_of_a_pair():
    """Have `Plan.pair` give the first pair of each shape under every index."""
    from synth.pair import matrix_of
    from synth.plan import Plan

    original, kept = Plan.pair, {}

    def pair(plan, index):
        matrix = matrix_of(plan.recipe, index)
        if matrix not in kept:
            few = replace(plan, files=tuple(plan.recipe.source.list_files()))
            kept[matrix] = original(few, index)
        return replace(kept[matrix], index=index)

    Plan.pair = pair


def step(name, folder, pairs, real):
    """Seconds of a step, and the peak memory that it took."""
    import pipelines.corpus.build as building
    from pipelines.cluster import IN_PROCESS
    from pipelines.corpus.verify import verify
    from recon.data.datasets import PairDataset
    from synth.corpus.tasks import tasks_of
    from synth.corpus.unfinished import UnfinishedCorpus
    from synth.plan import Plan

    out, wanted = folder / f"{pairs}.zarr", recipe(folder, pairs)
    files = tuple(f"photographs/of/a/data/set/{k:08d}.png" for k in range(pairs))

    def planned():
        return Plan.of(wanted) if real else Plan.of(wanted, files)

    if not real:
        copies_of_a_pair()
    before, start, used = peak(), time.perf_counter(), time.process_time()
    if name == "plan":
        tasks_of(planned())
    elif name == "write":
        corpus = UnfinishedCorpus(out, planned())
        corpus.prepare()
        for task in corpus.missing():
            entry = building.run_task(task, str(corpus.root), *of_plan(building, corpus.root))
            corpus.ledger.append(entry)
    elif name == "finish":
        building._finish(UnfinishedCorpus(out, planned()), IN_PROCESS, lambda: None)
    elif name == "open":
        assert len(PairDataset(out)) == pairs
    elif name == "verify":
        found = verify(out)
        assert found.intact, found.problems
    found = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - used}
    return {**{key: round(value, 3) for key, value in found.items()}, "MB": round((peak() - before) / 1e6, 1)}


def of_plan(building, root):
    return (building.plan_key(root),) if hasattr(building, "plan_key") else ()


def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(pairs, real):
    found = {}
    with tempfile.TemporaryDirectory(prefix="fathom-many-") as name:
        write_photos(Path(name) / "photos")
        for what in STEPS:
            command = [sys.executable, __file__, "--step", what, name, str(pairs), str(int(real))]
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[what] = json.loads(told.splitlines()[-1])
            found[what]["cpu_us_per_pair"] = round(1e6 * found[what]["cpu_seconds"] / pairs, 1)
            print(pairs, "real" if real else "copies", what, found[what], file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    if sys.argv[1] == "--step":
        print(json.dumps(step(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "1")))
    else:
        real = "--real" in sys.argv
        print(json.dumps({n: measure(int(n), real) for n in sys.argv[1:] if n.isdigit()}, indent=2))
