"""Splits: lists of files to train, validate and test on, such that no subject is in two of them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from synth.sources.patients import patient_of
from synth.sources.photos import is_image
from synth.sources.scan_slices import is_scan
from synth.storage.listing import files_below
from synth.storage.whole import write_whole

from ..display.progress import Meter


def subjects_of(folder: Path, by: str) -> dict[str, list[str]]:
    """Names of all photographs and scans below a folder, by subject; raises OSError, or ValueError without a subject.

    `by` is ``file`` (each file is a subject), ``folder`` (the first folder of the path), ``patient`` (the patient whom
    a file's header names; see `synth.sources.patients`), or a regular expression that finds the subject in a file's
    path (its first group, or its whole match). The patients' names are not written anywhere.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; give the folder that holds the files")
    names = files_below(folder, lambda name: is_image(name) or is_scan(name))
    if not names:
        raise FileNotFoundError(f"{folder} holds no photograph and no scan; give a folder that does")
    for name in names:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is a link that leads nowhere; fetch what it names, or remove it")
    found: dict[str, list[str]] = {}
    with Meter(f"find subjects in {folder.name}", len(names), unit="files") as meter:
        for name in names:
            found.setdefault(_subject(folder, name, by), []).append(name)
            meter.advance(1)
    return found


def _subject(folder: Path, name: str, by: str) -> str:
    if by == "file":
        return name
    if by == "patient":
        patient = patient_of(folder / name)
        if patient is None:
            remedy = "split by folder or by a regular expression instead"
            raise ValueError(f"--by patient: the header of {name} names no patient; {remedy}")
        return patient
    if by == "folder":
        if "/" not in name:
            remedy = "move it into its subject's folder, or choose another --by"
            raise ValueError(f"--by folder: {name} lies in no folder; {remedy}")
        return name.partition("/")[0]
    try:
        match = re.search(by, name)
    except re.error as error:
        remedy = "correct it, or write file, folder or patient"
        raise ValueError(f"--by {by}: this is not a regular expression ({error}); {remedy}") from None
    if match is None:
        raise ValueError(f"--by {by}: the expression finds no subject in {name}; widen the expression")
    return match.group(1) if match.re.groups and match.group(1) is not None else match.group(0)


def parse_parts(text: str) -> dict[str, float]:
    """Shares by name of ``train=0.8,test=0.2``; raises ValueError unless they are above 0 and add up to 1."""
    try:
        shares = {name.strip(): float(share) for name, share in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise ValueError(f"--parts {text}: write shares such as train=0.8,val=0.1,test=0.1") from None
    if not all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) for name in shares):
        raise ValueError(f"--parts {text}: write names of letters, digits, - and _")
    if not (min(shares.values()) > 0 and abs(sum(shares.values()) - 1) <= 1e-9):
        raise ValueError(f"--parts {text}: shares must be above 0 and add up to 1")
    return shares


def split(subjects: dict[str, list[str]], shares: dict[str, float], seed: int) -> dict[str, list[str]]:
    """Files by part: subjects in random order are divided by the shares; raises ValueError if a part gets none."""
    order = [sorted(subjects)[k] for k in np.random.default_rng(seed).permutation(len(subjects))]
    ends = [round(len(order) * share) for share in np.cumsum(list(shares.values()))]
    cuts = dict(zip(shares, zip([0, *ends[:-1]], ends, strict=True), strict=True))
    empty = [name for name, (first, last) in cuts.items() if first == last]
    if empty:
        raise ValueError(
            f"{len(order)} subjects leave no subject for {', '.join(empty)}; give it a larger share, or choose another "
            "--by"
        )
    return {
        name: sorted(file for subject in order[first:last] for file in subjects[subject])
        for name, (first, last) in cuts.items()
    }


def write_lists(folder: Path, parts: dict[str, list[str]], said: str) -> list[Path]:
    """Write a list per part beside the files that it names; raises FileExistsError if another list is there."""
    texts = {folder / f"{name}.txt": f"# {said}\n" + "\n".join(files) + "\n" for name, files in parts.items()}
    for path, text in texts.items():
        if path.exists() and path.read_text(encoding="utf-8", errors="replace") != text:
            raise FileExistsError(f"{path} is there already with another content; move it away")
    for path, text in texts.items():
        write_whole(path, text.encode())
    return list(texts)
