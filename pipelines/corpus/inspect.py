"""A corpus at a glance: a summary in words and numbers, and a contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synth.corpus.reader import Corpus, open_corpus
from synth.errors import StorageError
from synth.sources.crimes import MEANING
from synth.storage.place import Place
from synth.storage.whole import write_whole

from .inspect_page import corpus_page
from .pair_pictures import contact_sheet
from .same_recipe import sources_told
from .summary import lacking


def inspect(path: Place, out: Path) -> list[Path]:
    """Write ``summary.md``, ``contact_sheet.png`` and ``report.html`` of a corpus.

    Raises CorpusError, OSError, or StorageError where `out` is a root folder.
    """
    corpus = open_corpus(path)
    if out.resolve().parent == out.resolve():
        raise StorageError(f"{out}: is a root folder; give a folder below it, such as --out {out / 'inspected'}")
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is a file; choose another --out")
    there = {file.name for file in out.iterdir()} if out.is_dir() else set()
    if there and not there & {"summary.md", "contact_sheet.png", "report.html"}:
        raise FileExistsError(f"{out} holds other files; choose another --out")
    documents = {
        "summary.md": summary_text(corpus).encode(),
        "contact_sheet.png": contact_sheet(corpus),
        "report.html": corpus_page(corpus),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, document in documents.items():
        if (out / name).exists() and (out / name).read_bytes() != document:
            raise FileExistsError(f"{out / name} is there already with another content; choose another --out")
    for name, document in documents.items():
        write_whole(out / name, document)
    return [out / name for name in documents]


def summary_text(corpus: Corpus) -> str:
    """The summary as Markdown."""
    summary, recipe = corpus.attributes["summary"], corpus.recipe
    fitted = summary["fitted"]
    numbers = summary["numbers"]
    sets = recipe.espirit_sets
    lines = [
        f"# {recipe.name}",
        "",
        f"- {summary['pairs']} pairs from {sources_told(corpus.plan)}, {len(summary['rejected'])} rejected",
        f"- content hash `{corpus.content_hash}`, recipe hash `{corpus.attributes['recipe_hash']}`",
        *(f"- `{name}`: {count} pairs" for name, count in summary["buckets"].items()),
        *(["- two map sets: targets are shown as the root of the sum of squares over the sets"] if sets > 1 else []),
        f"- fit {fitted['fit']}: {fitted['turned']} turned by 90 degrees, {fitted['resized']} resized",
        f"- reference {recipe.target.reference}; {_noise_text(recipe.noise)}",
        f"- mask {recipe.sampling.kind}: nominal acceleration {numbers['acceleration']['mean']:g}, "
        f"net {numbers['acceleration_net']['min']:.2f} to {numbers['acceleration_net']['max']:.2f}",
        "",
        "| number | least | mean | greatest |",
        "|---|---|---|---|",
        *(f"| {name} | {v['min']:.6g} | {v['mean']:.6g} | {v['max']:.6g} |" for name, v in numbers.items()),
    ]
    lines += ["", *(f"- {line}" for line in lacking(summary))] if lacking(summary) else []
    if summary["findings"]:
        told = [f"- {n} of {summary['sources']} sources: {MEANING[f]} (`{f}`)" for f, n in summary["findings"].items()]
        lines += ["", "What earlier processing has done to the sources:", "", *told]
    if summary["rejected"]:
        lines += ["", "Rejected sources:", "", *(f"- {r['reason']}" for r in summary["rejected"])]
    return "\n".join(lines) + "\n"


def _noise_text(noise: Any) -> str:
    if noise.kind == "none":
        return "no noise"
    low, high = noise.snr
    return f"SNR ({noise.definition}) {low:g} to {high:g} wanted, {noise.law}; covariance {noise.covariance}"
