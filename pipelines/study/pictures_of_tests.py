"""Pictures that single tests of a study have drawn: images with their errors, and noise maps."""

from __future__ import annotations

from collections.abc import Collection

from ..display.html_page import Picture
from .folder import StudyFolder

PICTURES = 8  # at most, so that the file stays small


def pair_pictures(folder: StudyFolder, corpora: Collection[str] | None = None) -> list[Picture]:
    """The pairs on which each model is worst, median and best, on these corpora alone where they are given."""
    found: list[Picture] = []
    tests, shown = folder.made("test").values(), set[tuple[str, ...]]()
    for stage in tests:
        file, whose = folder.of(stage) / "images.png", (stage.model, stage.corpus)
        if corpora is not None and stage.corpus not in corpora:
            continue
        if file.exists() and whose not in shown and len(shown) < PICTURES:  # only the first of several seeds
            shown.add(whose)
            found.append((f"{stage.model} on {stage.corpus}", file.read_bytes()))
    return found


def noise_pictures(folder: StudyFolder) -> list[Picture]:
    """Noise maps of every corpus for which they were asked, a picture per kind of map; the first seed of each model."""
    found: dict[tuple[str, str], dict[str, bytes]] = {}
    for stage in folder.made("test").values():
        for file, asked in (("noise_map.png", stage.noise_map), ("noise.png", stage.replicas)):
            maps = found.setdefault((file, stage.corpus), {})
            if asked and stage.model not in maps:
                with folder.alerting(f"noise in {stage.folder}"):
                    maps[stage.model] = (folder.of(stage) / file).read_bytes()
    said = {
        "noise_map.png": "noise of the first pair for the noise at hand (standard deviation, in the image's unit), the "
        "share of its detail that was not measured, and the agreement of reconstructions from two halves of the noise",
        "noise.png": "local noise of the first pair over that of a fully sampled image, from replicas",
    }
    return [(f"On {corpus}: {said[file]}", list(maps.values())) for (file, corpus), maps in found.items() if maps]
