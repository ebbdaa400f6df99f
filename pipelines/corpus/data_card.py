"""The description of a finished corpus: a dataset card for people, and a Croissant document for machines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from synth.corpus.layout import metadata_documents
from synth.plan import Plan
from synth.recipe import PATHS
from synth.sources.crimes import MEANING

from ..errors import ManifestError
from ..public_data.manifests import CROISSANT, Manifest, load
from .summary import lacking


def card_documents(plan: Plan, summary: dict[str, Any], content: str) -> dict[str, bytes]:
    """``README.md`` and ``croissant.json`` of a corpus, by name."""
    return {
        "README.md": card_of(plan, summary, content).encode(),
        "croissant.json": json.dumps(_croissant(plan, summary, content, _manifest(plan)), indent=2).encode(),
    }


def _manifest(plan: Plan) -> Manifest | None:
    name = plan.recipe.source.manifest
    try:
        return load(name) if name else None
    except ManifestError:
        return None  # the recipe was accepted with this manifest; a card must not fail a finished corpus


def terms_of(plan: Plan) -> tuple[str, str, str]:
    """Source, its licence, and how to cite it."""
    return _terms(plan, _manifest(plan))


def _terms(plan: Plan, manifest: Manifest | None) -> tuple[str, str, str]:
    """Source, licence and citation."""
    if manifest is not None:
        return f"{manifest.title}, {manifest.home}", manifest.licence, manifest.citation
    if plan.recipe.source.kind == "skimage":
        return "photographs of scikit-image", "public domain or CC0, as scikit-image's docstrings say", "scikit-image"
    if plan.recipe.source.kind == "heads":
        return "heads that Fathom computes", "Apache-2.0, as Fathom itself", "not needed"
    return "the user's own files", "not stated: the recipe names no source.manifest", "not stated"


def _limits(plan: Plan, summary: dict[str, Any], manifest: Manifest | None) -> list[str]:
    recipe, found = plan.recipe, [] if manifest is None else [manifest.content.limits]
    for finding, count in summary["findings"].items():
        found.append(f"{count} of {summary['sources']} sources: {MEANING[finding]} (`{finding}`)")
    found += lacking(summary)
    if recipe.of_scans or recipe.noise.whiten:
        found.append("k-space, maps and target are of whitened coils: sigma is the same in all, without correlation")
    if recipe.own_maps:
        found.append("maps are estimated from the same noisy reference lines that a reconstruction gets")
    if not recipe.of_scans:
        found.append("phase and coils are synthetic; display-encoded grey values stand for magnitudes")
    if recipe.target.zero_filled is not None:
        least, most = (f"{100 * fraction:.3g}" for fraction in recipe.target.zero_filled)
        found.append(
            f"**a crime that was made on purpose** (`target.zero_filled`; Shimron et al., PNAS 119:e2117203119, 2022): "
            f"k-space, with its noise, is zero outside of {least} to {most} % of the matrix, as scanners interpolate; "
            "errors on these pairs are smaller than on measured ones, so do not test on them"
        )
    if recipe.fat is not None:
        found.append("bright parts have a phase of their own, as fat has (`fat`); they are not fat")
    if recipe.echo_train is not None:
        found.append("the signal decays along x as in an echo train (`echo_train`), and blurs the reference, too")
    if recipe.target.reference == "noisy":
        found.append("the reference is noisy, with the same draw of noise as the input")
    return found


def card_of(plan: Plan, summary: dict[str, Any], content: str, further: Sequence[str] = ()) -> str:
    """The text of a corpus's card; `further` are more lines of its table."""
    recipe, numbers, manifest = plan.recipe, summary["numbers"], _manifest(plan)
    source, licence, citation = _terms(plan, manifest)
    snr = numbers.get("snr_rms")
    told = f"SNR (rms) {snr['min']:.3g} to {snr['max']:.3g}, mean {snr['mean']:.3g}" if snr else "no noise was added"
    net = numbers["acceleration_net"]
    lines = [
        f"# {recipe.name}",
        "",
        f"{summary['pairs']} training pairs for learned MR image reconstruction, made by Fathom.",
        "",
        "| | |",
        "|---|---|",
        f"| source | {source} |",
        f"| licence of the source | {licence} |",
        f"| cite | {citation} |",
        f"| pairs | {summary['pairs']} of {summary['sources']} sources, {len(summary['rejected'])} rejected |",
        f"| shapes | {', '.join(f'`{name}` ({count})' for name, count in summary['buckets'].items())} |",
        f"| noise | {told}; reference {recipe.target.reference} |",
        f"| sampling | {recipe.sampling.kind}, net acceleration {net['min']:.3g} to {net['max']:.3g} |",
        f"| content hash | `{content}` |",
        f"| recipe hash | `{recipe.hash()}` |",
        *further,
        "",
        "## Known limits",
        "",
        *(f"- {limit}" for limit in _limits(plan, summary, manifest)),
        "",
        "## Recipe",
        "",
        "```json",
        json.dumps(without_paths(recipe.model_dump(mode="json", exclude_none=True, exclude=_unused(plan))), indent=2),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _unused(plan: Plan) -> set[str]:
    """Sections of the recipe that do not apply to these pairs: scans have their own phase."""
    return {"phase"} if plan.recipe.of_scans else set()


def without_paths(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe's data without the paths of files, for a card that may be published; recipe.json keeps the paths."""
    kept = {name: dict(part) if isinstance(part, dict) else part for name, part in recipe.items()}
    for section, key in PATHS:
        if isinstance(kept.get(section), dict) and kept[section].get(key) != "white":
            kept[section].pop(key, None)
    return kept


def _croissant(plan: Plan, summary: dict[str, Any], content: str, manifest: Manifest | None) -> dict[str, Any]:
    source, licence, citation = _terms(plan, manifest)
    files, records = [], []
    for key, document in sorted(metadata_documents(plan).items()):
        bucket, _, array = key.removesuffix("/zarr.json").partition("/")
        if not array:
            continue
        files.append(
            {
                "@type": "cr:FileObject",
                "@id": key,
                "name": key,
                "contentUrl": key,
                "encodingFormat": "application/json",
                "sha256": hashlib.sha256(document).hexdigest(),
            }
        )
        files.append(
            {
                "@type": "cr:FileSet",
                "@id": f"{bucket}/{array}",
                "name": f"shards of {bucket}/{array}",
                "encodingFormat": "application/vnd.zarr",
                "includes": f"{bucket}/{array}/c/**",
            }
        )
        described = json.loads(document)
        records.append(
            {
                "@type": "cr:RecordSet",
                "@id": f"records of {bucket}/{array}",
                "name": f"{bucket}/{array}",
                "description": f"{described['data_type']} {described['shape']}, axes {described['dimension_names']}",
            }
        )
    return {
        **CROISSANT,
        "name": plan.recipe.name,
        "description": f"{summary['pairs']} training pairs for learned MR image reconstruction from {source}",
        "license": licence,
        "citeAs": citation,
        "version": content,
        "distribution": files,
        "recordSet": records,
    }
