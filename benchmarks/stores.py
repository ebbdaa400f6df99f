"""Pairs per second from an object store that answers after 30 ms: Fathom's loader, zarr through s3fs, and streams.

The store is moto's server on the loopback behind a proxy that holds back each request for the delay; both run in a
process of their own. For each range of bytes, moto copies the whole object, which a store does not: shards are kept
small here (8 pairs of 4 coils), and ways that read ranges are faster elsewhere. Each way reads k-space, mask and target
of every pair, in random order where it says so, and without maps. `zarr through s3fs` opens the corpus's arrays with
`zarr.open_array("s3://...")`, one pair after the other or in 8 threads. MosaicML Streaming (MDS shards of 64 MB) and
WebDataset (tar files of 8 pairs, through boto3) read the same arrays, written in their own formats; they are left out
where they are not installed. The second epoch of each that keeps files finds them on the disk. Samples of MDS are the
bytes as they were stored; a row has them as the batches of tensors, with unpacked k-space, that Fathom's loader gives
(which also compares the crc32c of each array).

    python benchmarks/stores.py [PAIRS] [DELAY_MS]
"""

from __future__ import annotations

import asyncio
import io
import json
import multiprocessing
import os
import shutil
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
RESULTS = Path(__file__).parent / "results" / "stores.json"
KEYS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "us-east-1"}
ARRAYS, FEW = ("kspace", "mask", "target"), 24


def serve(delay, ports):
    """Run moto's server, and before it the proxy; reads are one packet per request, which the proxy holds back."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()

    async def pump(reader, writer, wait):
        while data := await reader.read(2**20):
            await asyncio.sleep(wait)
            writer.write(data)
            await writer.drain()
        writer.close()

    async def connected(reader, writer):
        further = await asyncio.open_connection(host, port)
        await asyncio.gather(pump(reader, further[1], delay), pump(further[0], writer, 0), return_exceptions=True)

    async def run():
        proxy = await asyncio.start_server(connected, "127.0.0.1", 0)
        ports[0], ports[1] = port, proxy.sockets[0].getsockname()[1]
        await proxy.serve_forever()

    asyncio.run(run())


def rate(count, read):
    start = time.perf_counter()
    seen = read()
    assert seen == count, (seen, count)
    return round(count / (time.perf_counter() - start), 1)


def build_corpus(folder, pairs):
    from building import RECIPE, write_photos

    from pipelines.cluster import IN_PROCESS
    from pipelines.corpus.build import build
    from synth.recipe import load_recipe

    changes = [f"pairs={pairs}", "target.readout_oversampling=1", "shard_pairs=8", "coils.count=4"]
    photos = write_photos(folder / "photos")
    build(load_recipe(RECIPE, [f"source.path={photos}", *changes]), folder / "pairs.zarr", IN_PROCESS)
    return folder / "pairs.zarr"


def upload(folder, key):
    from synth.storage.place import place_of

    for file in folder.rglob("*"):
        if file.is_file():
            (place_of(f"s3://bucket/{key}") / file.relative_to(folder).as_posix()).put(file)


def samples_of(corpus):
    """k-space, mask and target of every pair, as arrays."""
    from recon.data.datasets import PairDataset

    pairs = PairDataset(corpus, with_maps=False)
    for k in range(len(pairs)):
        batch = pairs.packed([k])
        yield {name: getattr(batch, name)[0].numpy() for name in ARRAYS}


def epochs(pairs, count, batch_size=8, **how):
    from recon.data.loader import make_loader

    loader = make_loader(pairs, batch_size, device="cpu", **how)
    return [rate(count, lambda: sum(len(batch["pair_id"]) for batch in loader)) for _ in range(2)]


def fathom(address, count):
    from recon.data.datasets import PairDataset

    def read(**how):
        return epochs(PairDataset(address, with_maps=False), count, **how)

    found = {"Fathom, shuffled, batches of 8": read()}
    found["Fathom, shuffled, batches of 1"] = read(batch_size=1)
    found["Fathom, in order, batches of 8"] = read(shuffle=False)
    with tempfile.TemporaryDirectory(prefix="fathom-cache-") as folder:
        os.environ.update({"FATHOM_CACHE": folder, "FATHOM_CACHE_GB": "8"})
        found["Fathom, shuffled, batches of 8, cache"] = read()
    with tempfile.TemporaryDirectory(prefix="fathom-cache-") as folder:
        os.environ.update({"FATHOM_CACHE": folder, "FATHOM_CACHE_GB": "8"})
        found["Fathom, window of 64, batches of 8, cache"] = read(window=64)
    del os.environ["FATHOM_CACHE"], os.environ["FATHOM_CACHE_GB"]
    return found


def naive(address, bucket, count):
    import zarr

    arrays = [zarr.open_array(f"{address}/{bucket}/{name}", mode="r") for name in ARRAYS]

    def pair(k):
        return [array[k] for array in arrays]

    def threaded():
        with ThreadPoolExecutor(8) as pool:
            return sum(1 for _ in pool.map(pair, range(count)))

    few = min(FEW, count)
    return {
        "zarr through s3fs, in order": [rate(few, lambda: sum(1 for k in range(few) if pair(k)))],
        "zarr through s3fs, in order, 8 threads": [rate(count, threaded)],
    }


def mosaic(corpus, folder, count):
    from streaming import MDSWriter, StreamingDataset

    like = next(samples_of(corpus))
    columns = {name: f"ndarray:{a.dtype}:{','.join(map(str, a.shape))}" for name, a in like.items() if name != "kspace"}
    columns = dict.fromkeys((*columns, "kspace"), "bytes")  # it has no complex arrays
    with MDSWriter(out=str(folder / "mds"), columns=columns, size_limit=2**26) as out:
        for sample in samples_of(corpus):
            out.write({name: array.tobytes() for name, array in sample.items()})
    upload(folder / "mds", "mds")

    def data(local):
        how = {"shuffle": True, "batch_size": 8, "predownload": 64}
        return StreamingDataset(remote="s3://bucket/mds", local=str(folder / local), **how)

    first, other = data("local"), data("other")
    return {
        "MosaicML Streaming, shuffled": [rate(count, lambda: sum(1 for s in first if s["kspace"])) for _ in range(2)],
        "MosaicML Streaming, shuffled, batches of 8": [
            rate(count, lambda: sum(map(len, unpacked(other, corpus, like)))) for _ in range(2)
        ],
    }


def unpacked(samples, corpus, like):
    """The targets of batches of 8 that Fathom's code unpacks from samples of bytes."""
    import numpy as np
    import torch

    from recon.data.datasets import PairDataset

    pairs, waiting = PairDataset(corpus, with_maps=False), []
    packed = pairs.packed(range(8))
    for sample in samples:
        waiting.append({n: np.frombuffer(sample[n], a.dtype).reshape(a.shape) for n, a in like.items()})
        if len(waiting) == 8:
            arrays = {name: torch.from_numpy(np.stack([one[name] for one in waiting])) for name in like}
            yield pairs.unpacked(replace(packed, **arrays))["target"]
            waiting.clear()


def web(corpus, folder, count):
    import boto3
    import numpy as np
    import webdataset

    (folder / "tar").mkdir()
    for k, sample in enumerate(samples_of(corpus)):
        with tarfile.open(folder / "tar" / f"{k // 8:04d}.tar", "a") as tar:
            for name, array in sample.items():
                data = io.BytesIO()
                np.save(data, array)
                info = tarfile.TarInfo(f"{k:06d}.{name}.npy")
                info.size = data.tell()
                data.seek(0)
                tar.addfile(info, data)
    upload(folder / "tar", "tar")
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    made = [f"http://x/{file.name}" for file in sorted((folder / "tar").iterdir())]
    webdataset.gopen_schemes["http"] = lambda url, *_, **__: client.get_object(
        Bucket="bucket", Key=f"tar/{url.rpartition('/')[2]}"
    )["Body"]
    data = webdataset.WebDataset(made, shardshuffle=len(made)).shuffle(64).decode()
    return {
        "WebDataset, shards shuffled and a window of 64": [rate(count, lambda: sum(1 for _ in data)) for _ in (0, 1)]
    }


def measure(pairs, delay):
    context = multiprocessing.get_context("spawn")
    ports = context.Array("i", 2)
    server = context.Process(target=serve, args=(delay, ports), daemon=True)
    server.start()
    while not ports[1]:
        time.sleep(0.05)
    os.environ.update({**KEYS, "AWS_EC2_METADATA_DISABLED": "true"})
    for name in ("AWS_ENDPOINT_URL", "S3_ENDPOINT_URL"):
        os.environ[name] = f"http://127.0.0.1:{ports[0]}"
    from recon.data.datasets import PairDataset
    from synth.storage import objects

    try:
        with tempfile.TemporaryDirectory(prefix="fathom-stores-") as name:
            folder = Path(name)
            import urllib.request

            made = urllib.request.Request(f"http://127.0.0.1:{ports[0]}/bucket", method="PUT")
            urllib.request.urlopen(made).close()
            corpus = build_corpus(folder, pairs)
            upload(corpus, "pairs.zarr")
            objects._store.cache_clear()
            for key in ("AWS_ENDPOINT_URL", "S3_ENDPOINT_URL"):
                os.environ[key] = f"http://127.0.0.1:{ports[1]}"
            near = PairDataset(corpus, with_maps=False)
            bucket = next(path.parent.name for path in corpus.glob("*/zarr.json"))
            found = {
                "bytes_per_pair": near.pair_bytes,
                "Fathom, from a folder, shuffled, batches of 8": epochs(near, pairs),
            }
            found |= fathom("s3://bucket/pairs.zarr", pairs)
            print(json.dumps(found), file=sys.stderr, flush=True)
            others = (lambda: naive("s3://bucket/pairs.zarr", bucket, pairs), lambda: mosaic(corpus, folder, pairs),
                      lambda: web(corpus, folder, pairs))  # fmt: skip
            for other in others:
                try:
                    found |= other()
                except ImportError as error:
                    found[f"absent: {error.name}"] = []
                except Exception as error:
                    found[f"failed: {type(error).__name__}: {error}"[:200]] = []
                print(json.dumps(found), file=sys.stderr, flush=True)
            shutil.rmtree(folder / "mds", ignore_errors=True)
            return found
    finally:
        server.kill()


def versions():
    found = {}
    for name in ("obstore", "moto", "s3fs", "zarr", "mosaicml-streaming", "webdataset", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def main():
    pairs, delay = (float(a) for a in [*sys.argv[1:], *("160", "30")[len(sys.argv) - 1 :]])
    found = {"pairs": int(pairs), "delay_ms": delay, "cores": os.cpu_count(), "versions": versions()}
    found["pairs per second, of the first and the second epoch"] = measure(int(pairs), delay / 1000)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
