"""Time per pair and peak memory of planning, writing, finishing, opening and verifying corpora of many tiny pairs.

Pairs have two coils and 16x16 or 16x18 pixels. So that the corpus machinery is measured and not the synthesis, one pair
of each shape is synthesised, and stored with another index and another source in place of the others; digests, ledger,
numbers and checks are those of any corpus. With --real the pairs are synthesised. Each step runs in a process of its
own; its memory is the peak, less what the imports took.

With --command, `fathom build` and `fathom verify` run as a user runs them, in one process each, with the pairs of
--real. Finishing then is what follows the last line of the ledger; memory is the peak, with the imports.

    python benchmarks/many_pairs.py 1000 10000 100000
    python benchmarks/many_pairs.py --real 10000
    python benchmarks/many_pairs.py --command 1000 10000 100000
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


def recipe_data(folder, pairs):
    return {
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


def recipe(folder, pairs):
    from synth.recipe import parse_recipe

    return parse_recipe(recipe_data(folder, pairs), "tiny")


def recipe_file(folder, pairs):
    data = recipe_data(folder, pairs)
    lines = [f"{key} = {json.dumps(value)}" for key, value in data.items() if not isinstance(value, dict)]
    for name, part in data.items():
        if isinstance(part, dict):
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in part.items())]
    file = folder / f"{pairs}.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


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


def command(*words):
    """What `fathom WORDS --json` says, its seconds and processor's seconds, its peak memory, and when it ended."""
    code = "import sys; from pipelines.cli.main import main; sys.argv[0] = 'fathom'; main()"
    start = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([sys.executable, "-c", code, *map(str, words), "--json"], stdout=said)
        _, status, used = os.wait4(process.pid, 0)
        ended, seconds = time.time(), time.perf_counter() - start
        assert status == 0, words
        said.seek(0)
        told = json.loads(said.read().splitlines()[-1])
    cost = {"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime}
    return told, {**{k: round(v, 2) for k, v in cost.items()}, "MB": round(1024 * used.ru_maxrss / 1e6, 1)}, ended


def measure_commands(pairs):
    with tempfile.TemporaryDirectory(prefix="fathom-many-") as name:
        folder, out = Path(name), Path(name) / f"{pairs}.zarr"
        write_photos(folder / "photos")
        made, build, ended = command("build", recipe_file(folder, pairs), "--out", out, "--scheduler", "sync")
        ledger = (out / "ledger.jsonl").stat()
        found = {
            "pairs_per_s": made["pairs_per_s"],
            "ledger_bytes_per_pair": round(ledger.st_size / pairs),
            "build": build,
            "finish_seconds": round(ended - ledger.st_mtime, 2),
        }
        told, found["verify"], _ = command("verify", out)
        assert told["intact"], told
        how = [sys.executable, __file__, "--step", "open", name, str(pairs), "1"]
        told = subprocess.run(how, check=True, stdout=subprocess.PIPE, text=True).stdout
        found["open"] = json.loads(told.splitlines()[-1])
        found["content_hash"] = made["content_hash"]
    print(pairs, found, file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    if sys.argv[1] == "--step":
        print(json.dumps(step(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "1")))
    else:
        counts, real = [int(n) for n in sys.argv[1:] if n.isdigit()], "--real" in sys.argv
        commands = "--command" in sys.argv
        print(json.dumps({n: measure_commands(n) if commands else measure(n, real) for n in counts}, indent=2))
