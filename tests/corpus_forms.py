"""A corpus in the form of earlier versions, which kept fewer checksums, and damage that several tests share."""

import json
import shutil


def as_earlier(corpus):
    """Take out of a finished corpus what versions without a seal did not write."""
    root = json.loads((corpus / "zarr.json").read_text())
    said = root["attributes"]["fathom"]
    del said["sealed"], said["summary"]["versions"]["synth_sha256"]
    inside = root["consolidated_metadata"]["metadata"]
    root["consolidated_metadata"]["metadata"] = {k: v for k, v in inside.items() if not k.endswith("_crc32c")}
    (corpus / "zarr.json").write_text(json.dumps(root, indent=2))
    told = {"content_hash": said["content_hash"], **said["summary"]}
    (corpus / "summary.json").write_text(json.dumps(told, indent=2))
    for array in corpus.glob("*/*_crc32c"):
        shutil.rmtree(array)
    rewrite(corpus, lambda entry: [row.pop("crc32c") for row in entry["rows"]], summed=False)
    rewrite(corpus, lambda entry: entry["versions"].pop("synth_sha256"), summed=False)
    return corpus


def rewrite(corpus, change, *, summed=True):
    """Change every entry of the ledger; with `summed` as the ledger itself would write it."""
    from synth.corpus.ledger import Ledger

    lines = [json.loads(line) for line in (corpus / "ledger.jsonl").read_bytes().splitlines()]
    (corpus / "ledger.jsonl").unlink()
    for entry in lines:
        entry.pop("line_sha256", None)
        change(entry)
        if summed:
            Ledger(corpus).append(entry)
        else:
            with (corpus / "ledger.jsonl").open("a") as file:
                file.write(json.dumps(entry) + "\n")


def flip(file, place, change=1):
    data = bytearray(file.read_bytes())
    data[place % len(data)] ^= change
    file.write_bytes(data)


def exchange(one, other):
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
