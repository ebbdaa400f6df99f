"""Pairs per second from an object store that answers after 30 ms: Fathom's loader against zarr through s3fs.

The store is a folder behind a small server on the loopback, in a process of its own, that answers what S3 answers to
reads, each time after the given delay. `zarr through s3fs` is what a program does that opens the corpus's arrays with
`zarr.open("s3://...")` and reads k-space, mask and target of one pair after the other, or in 8 threads.

    python benchmarks/stores.py CORPUS [DELAY_MS]
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

DATE = "Tue, 21 Oct 2025 07:28:00 GMT"


class Server(asyncio.Protocol):
    """GET, HEAD and list requests of S3 for the files below a folder, as the bucket ``bucket``."""

    def __init__(self, folder, delay):
        self.folder, self.delay, self.waiting = folder, delay, b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.waiting += data
        while b"\r\n\r\n" in self.waiting:
            head, _, self.waiting = self.waiting.partition(b"\r\n\r\n")
            asyncio.get_running_loop().call_later(self.delay, self.answer, head.decode())

    def answer(self, head):
        method, target, _ = head.split("\r\n")[0].split(" ")
        address = urlsplit(target)
        key = unquote(address.path).removeprefix("/bucket").strip("/")
        if not key:
            self.send(200, self.listed(parse_qs(address.query)), method)
            return
        file = self.folder / key
        if not file.is_file():
            self.send(404, b"<Error><Code>NoSuchKey</Code></Error>", method)
            return
        data = file.read_bytes()
        wanted = re.search(r"(?i)\r\nrange: bytes=(\d*)-(\d*)", head)
        if not wanted:
            self.send(200, data, method)
            return
        first = int(wanted[1]) if wanted[1] else max(0, len(data) - int(wanted[2]))
        end = min(int(wanted[2]) + 1, len(data)) if wanted[1] and wanted[2] else len(data)
        self.send(206, data[first:end], method, f"Content-Range: bytes {first}-{end - 1}/{len(data)}\r\n")

    def listed(self, query):
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        files = sorted(p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file())
        mine = [name for name in files if name.startswith(prefix)]
        folders = sorted({prefix + n[len(prefix) :].split("/")[0] + "/" for n in mine if "/" in n[len(prefix) :]})
        told = "".join(
            f"<Contents><Key>{escape(n)}</Key><LastModified>2025-10-21T07:28:00.000Z</LastModified><ETag>&quot;1&quot;"
            f"</ETag><Size>{(self.folder / n).stat().st_size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for n in mine
            if not delimiter or "/" not in n[len(prefix) :]
        )
        if delimiter:
            told += "".join(f"<CommonPrefixes><Prefix>{escape(n)}</Prefix></CommonPrefixes>" for n in folders)
        head = f"<Name>bucket</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(mine)}</KeyCount>"
        head += "<MaxKeys>100000</MaxKeys><IsTruncated>false</IsTruncated>"
        return f'<?xml version="1.0"?><ListBucketResult>{head}{told}</ListBucketResult>'.encode()

    def send(self, status, body, method, more=""):
        head = f'HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nETag: "1"\r\nLast-Modified: {DATE}\r\n{more}\r\n'
        self.transport.write(head.encode())
        if method != "HEAD":
            self.transport.write(body)


def serve(folder, delay, port):
    async def run():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Server(Path(folder), delay), "127.0.0.1", 0)
        port.value = server.sockets[0].getsockname()[1]
        await server.serve_forever()

    asyncio.run(run())


def rate(count, read):
    start = time.perf_counter()
    assert read() == count
    return round(count / (time.perf_counter() - start), 1)


def measure(corpus, delay):
    """Pairs per second of each way, and seconds to open the corpus."""
    import zarr

    from recon.data.datasets import PairDataset
    from recon.data.loader import make_loader

    address = f"s3://bucket/{corpus.name}"
    start = time.perf_counter()
    pairs = PairDataset(address, with_maps=False)
    opened = time.perf_counter() - start
    bucket = next(p.parent.name for p in corpus.glob("*/zarr.json"))
    arrays = [zarr.open_array(f"{address}/{bucket}/{name}", mode="r") for name in ("kspace", "mask", "target")]
    few, count = min(40, len(pairs)), len(pairs)

    def naive(k):
        return [array[k] for array in arrays]

    def threaded():
        with ThreadPoolExecutor(8) as pool:
            return sum(1 for _ in pool.map(naive, range(count)))

    def fathom(**how):
        return sum(len(b["pair_id"]) for b in make_loader(PairDataset(address, with_maps=False), device="cpu", **how))

    return {
        "delay_ms": 1000 * delay,
        "pairs": count,
        "bytes_per_pair": pairs.pair_bytes,
        "seconds_to_open": round(opened, 2),
        "zarr through s3fs": rate(few, lambda: sum(1 for k in range(few) if naive(k))),
        "zarr through s3fs, 8 threads": rate(count, threaded),
        "fathom items": rate(few, lambda: sum(1 for k in range(few) if pairs[k])),
        "fathom loader, shuffled, batches of 1": rate(count, fathom),
        "fathom loader, shuffled, batches of 8": rate(count, lambda: fathom(batch_size=8)),
        "fathom loader, in order, batches of 8": rate(count, lambda: fathom(batch_size=8, shuffle=False)),
    }


def main():
    corpus, delay = Path(sys.argv[1]), float(sys.argv[2] if len(sys.argv) > 2 else 30) / 1000
    context = multiprocessing.get_context("spawn")
    port = context.Value("i", 0)
    server = context.Process(target=serve, args=(str(corpus.parent), delay, port), daemon=True)
    server.start()
    while not port.value:
        time.sleep(0.05)
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ.update({**keys, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port.value}"})
    try:
        print(json.dumps(measure(corpus, delay), indent=2))
    finally:
        server.kill()


if __name__ == "__main__":
    main()
