"""The recipe: what a corpus is made of, as frozen data; errors name file, line, key, value and remedy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from .errors import RecipeError, SettingsError
from .settings.spec import Spec
from .settings.toml import load_settings, parse_settings
from .sources.photos import ImagesSpec
from .sources.scan_slices import ScansSpec
from .stages.coil_estimate import EspiritSpec
from .stages.coil_library import open_library
from .stages.coils import CoilsSpec, LibrarySpec, LoopsSpec, draw_coils
from .stages.echo_train import EchoTrainSpec
from .stages.fat import FatSpec
from .stages.mask_lines import RegularSpec
from .stages.noise import NoiseSpec, covariance_factor
from .stages.outline import reach
from .stages.phase import PhaseSpec, SinusoidalSpec
from .stages.sampling import SamplingSpec
from .stages.target import TargetSpec
from .stages.zero_filling import ZeroFilling
from .storage.arrays import sha256_of_file
from .storage.corpus_files import content_hash_of
from .storage.place import Place, place_of

PATHS = (("source", "path"), ("coils", "path"), ("sampling", "path"), ("noise", "covariance"))


class Recipe(Spec):
    """Everything that determines a corpus, besides the source files themselves; frozen.

    `load_recipe` reads a recipe from TOML; ``fathom schema`` prints each section's keys, defaults and meaning.
    """

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="the corpus's name, which its data card shows"
    )
    seed: int = Field(default=0, ge=0, description="of every draw; the pairs of another seed are other pairs")
    pairs: int | None = Field(
        default=None, ge=1, le=10**7, description="default: one per source; with more, sources are used several times"
    )
    kspace: Literal["packed", "full"] = Field(
        default="packed",
        description="packed: only the sampled part is stored; full: all of it, so that other masks can be drawn",
    )
    shard_pairs: int | None = Field(
        default=None, ge=1, le=10**5, description="pairs per file; it has no influence on the pairs themselves"
    )
    source: Annotated[ImagesSpec | ScansSpec, Field(discriminator="kind")] = Field(
        description="photographs, computed heads, or scans"
    )
    target: TargetSpec = Field(
        default=TargetSpec(), description="the matrix, how a source is fitted to it, and what the reference is"
    )
    phase: PhaseSpec = Field(
        default=SinusoidalSpec(), description="the phase of an image from a photograph; scans have their own"
    )
    fat: FatSpec | None = Field(default=None, description="not for scans: bright tissue with a phase of its own")
    coils: CoilsSpec = Field(description="coil maps: of loops, a birdcage, a library, or estimated from each scan")
    noise: NoiseSpec = Field(
        default=NoiseSpec(), description="the SNR to reach, its definition, and the covariance between coils"
    )
    sampling: SamplingSpec = Field(
        default=RegularSpec(), description="the mask: which lines or points of k-space a pair keeps"
    )
    echo_train: EchoTrainSpec | None = Field(
        default=None, description="not for scans: decay of the signal while the lines of an echo train are acquired"
    )

    def resolved(self) -> Recipe:
        """Fill in values that depend on the files it names; raises ValueError or OSError for settings that conflict."""
        recipe = self._with_absolute_paths()
        coils = recipe.coils
        self._refuse_what_only_photos_or_scans_have()
        if isinstance(coils, LibrarySpec):
            coils = self._with_library(coils)
        if isinstance(coils, LoopsSpec):
            self._refuse_wires_in_the_object(coils)
        if self.noise.covariance != "white" and coils.count is not None and not self.of_scans:
            covariance_factor(recipe.noise.covariance, coils.count)
        if self.sampling.packs_points and self.target.readout_oversampling > 1:
            raise ValueError(
                f"target.readout_oversampling = {self.target.readout_oversampling} cannot be used with masks of points "
                f"(sampling.kind '{self.sampling.kind}', where y is a second phase encoding, or "
                "sampling.partial_fourier_y); set it to 1"
            )
        if self.target.zero_filled is not None:
            self._refuse_zeros_in_the_reference(self.target.zero_filled[0])
        for y, x in self.target.matrix if self.target.fit != "native" else ():
            self.sampling.capacity((y * self.target.readout_oversampling, x))
        return recipe.model_copy(update={"coils": coils})

    def _refuse_zeros_in_the_reference(self, fraction: float) -> None:
        """The reference lines, and the block of them that maps are estimated from, must be measured."""
        if self.target.readout_oversampling > 1:
            raise ValueError("target.zero_filled needs target.readout_oversampling = 1; leave one of them out")
        lines = getattr(self.sampling, "reference_lines", 0)
        estimated = None if isinstance(self.coils, EspiritSpec) else self.coils.estimated
        rows = lines if self.sampling.packs_points else 0 if estimated is None else estimated.reference
        for n, needed in (
            (n, least) for matrix in self.target.matrix for n, least in zip(matrix, (rows, lines), strict=True)
        ):
            measured = int(ZeroFilling(fraction).measured(n).sum())
            if measured < min(needed, n):
                raise ValueError(
                    f"target.zero_filled = {fraction:g} leaves {measured} of {n} positions, and the reference has "
                    f"{needed}; raise it, or lower sampling.reference_lines or coils.estimated.reference"
                )

    def _refuse_wires_in_the_object(self, coils: LoopsSpec) -> None:
        widths = (1.0,) if self.target.wrap is None else self.target.wrap
        farthest = max(
            reach(self.target.outline, (y, round(width * x))) for y, x in self.target.matrix for width in widths
        )
        if coils.nearest_wire <= farthest:
            other = "" if self.target.outline == "head" else ", or write target.outline = 'head'"
            raise ValueError(
                f"coils.distance = {coils.distance[0]:g} with tilts up to {max(map(abs, coils.tilt)):g} rad brings "
                f"wires to {coils.nearest_wire:.3f} half diagonals from the centre of the field of view, but with "
                f"target.outline = '{self.target.outline}' the object reaches to {farthest:.3f}, and maps are infinite "
                f"at a wire; raise coils.distance, lower coils.tilt{other}"
            )

    def _with_library(self, coils: LibrarySpec) -> LibrarySpec:
        library = open_library(coils.path).with_coils(coils.count)
        changed = coils.flip or coils.rotate or coils.mix
        virtual = coils.count is not None and max(shape[0] for shape in library.shapes) > coils.count
        if self.noise.covariance != "white" and (coils.mix or virtual):
            raise ValueError(
                "noise.covariance is that of the library's own coils, but coils.mix, or a coils.count below their "
                "number, combines them to new coils; leave out coils.mix and keep all coils, or write "
                "noise.covariance = 'white'"
            )
        if coils.sets > len(library) and not changed:
            raise ValueError(
                f"coils.sets = {coils.sets}, but the library {coils.path} has {len(library)} sets; lower coils.sets, "
                "or write coils.flip, coils.rotate or coils.mix = true, so that a set can be used several times"
            )
        settled = {"count": coils.count or library.coils, "sets": coils.sets or len(library)}
        coils = coils.model_copy(update=settled)
        for matrix in self.target.matrix:
            draw_coils(coils, self.seed, 0).maps(matrix)
        return coils

    @property
    def own_maps(self) -> bool:
        """Whether each pair has its own maps, estimated from its reference lines; pairs from scans always have."""
        return isinstance(self.coils, EspiritSpec) or self.coils.estimated is not None

    @property
    def of_scans(self) -> bool:
        """Whether pairs come from scans, which have phase, coils and noise of their own; scans are whitened."""
        return isinstance(self.coils, EspiritSpec)

    @property
    def espirit_sets(self) -> int:
        """Map sets of each pair."""
        how = self.coils if isinstance(self.coils, EspiritSpec) else self.coils.estimated
        return 1 if how is None else how.espirit_sets

    @property
    def follows_model(self) -> bool:
        """Whether k-space without its noise is P F C of the reference, with the stored maps C."""
        return not self.own_maps and self.echo_train is None and self.target.zero_filled is None

    @property
    def noise_is_white(self) -> bool:
        """Whether the noise in k-space is as strong everywhere and in all coils, and does not correlate."""
        return (self.of_scans or self.noise.is_white) and self.target.zero_filled is None

    @property
    def shared_map_sets(self) -> int:
        """The number of map sets that pairs share."""
        return 0 if self.own_maps else self.coils.sets

    def _refuse_what_only_photos_or_scans_have(self) -> None:
        scans, target = isinstance(self.source, ScansSpec), self.target
        if scans != self.of_scans:
            raise ValueError(
                f"coils.kind '{self.coils.kind}' cannot be used with source.kind '{self.source.kind}'; write "
                "coils.kind = 'espirit' for scans, which have their own coils, and 'loops', 'birdcage' or 'library' "
                "for photographs"
            )
        if not scans and self.noise.whiten and self.noise.covariance == "white":
            raise ValueError("noise.whiten = true needs a noise.covariance; without one, noise is white: leave it out")
        if not scans and self.own_maps and not self.noise.is_white:
            raise ValueError(
                "coils.estimated needs white noise, as whitened scans have; write noise.whiten = true, or "
                "noise.covariance = 'white'"
            )
        if target.wrap is not None and (scans or not self.own_maps or target.lesions is not None):
            raise ValueError(
                "target.wrap is for photographs with coils.estimated, and without target.lesions: where an image wraps "
                "around, its true maps are not those of a pixel"
            )
        if (self.coils.count or self.espirit_sets) < self.espirit_sets:
            raise ValueError(f"espirit_sets = {self.espirit_sets} needs as many coils or more; raise coils.count")
        if not scans and (target.fit == "native" or target.flip or target.shift or target.rotate or target.degrees):
            raise ValueError(
                "target.fit = 'native', flip, shift, rotate and degrees need source.kind = 'scans'; leave them out"
            )
        if scans and any(x is not None for x in (self.fat, self.echo_train, target.zero_filled, target.truncated)):
            raise ValueError(
                "[fat], [echo_train], target.zero_filled and target.truncated are for photographs; for scans, leave "
                "them out"
            )
        if scans and target.lesions is not None:
            raise ValueError("target.lesions are for photographs and volumes, not for source.kind = 'scans'")
        if scans and (target.readout_oversampling > 1 or len(target.matrix) > 1 or target.fit in ("resize", "pad")):
            raise ValueError(
                "scans are cropped or kept as they are: write target.fit = 'crop' or 'native', one target.matrix, and "
                "no readout_oversampling"
            )

    def _with_absolute_paths(self) -> Recipe:
        """Make paths absolute, so that a worker or a later command in another folder finds the same files."""
        update: dict[str, Any] = {}
        for name, key in PATHS:
            section = getattr(self, name)
            path = getattr(section, key, None)
            if path is not None and path != "white":
                place = place_of(path)
                update[name] = section.model_copy(
                    update={key: str(place.absolute() if isinstance(place, Path) else place)}
                )
        return self.model_copy(update=update)

    def hash(self) -> str:
        """sha256 of what determines the pairs: the resolved recipe, and the content of the files it names.

        The hash leaves out the paths of files, and `shard_pairs` and `source.max_rejected`, which change how a corpus
        is built but not its pairs. It also leaves out the photographs: each pair stores the sha256 of its own.
        """
        how: Any = {"shard_pairs": True, "source": {"max_rejected", "path", "manifest"}}
        how |= {name: {key} for name, key in PATHS if name != "source"}
        identity = self.model_dump(mode="json", exclude=how, exclude_none=True)
        named = [getattr(getattr(self, name), key, None) for name, key in PATHS if name != "source"]
        identity["files"] = [file_hash(place_of(path)) if path not in (None, "white") else path for path in named]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def file_hash(path: Place) -> str:
    """sha256 of a file, or the content hash of a corpus or a library."""
    if path.is_dir():
        library = open_library(str(path))
        if library.content_hash is not None:
            return library.content_hash
        return content_hash_of(path)
    return sha256_of_file(path)


def load_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe, apply changes, validate it, and fill in values that depend on the files it names.

    Parameters
    ----------
    path
        A TOML file.
    overrides
        Changes such as ``noise.snr=20``, applied in order.

    Returns
    -------
    The resolved recipe, with absolute paths.

    Raises
    ------
    RecipeError
        The recipe cannot be read or used; the message names file, line, key, value and remedy.
    """
    try:
        return _resolved(load_settings(Recipe, path, overrides), str(path))
    except SettingsError as error:
        raise RecipeError(str(error)) from None


def parse_recipe(data: dict[str, Any], where: str) -> Recipe:
    """Validate recipe data; raises RecipeError that names `where` the data come from and each wrong key."""
    try:
        return _resolved(parse_settings(Recipe, data, where), where)
    except SettingsError as error:
        raise RecipeError(str(error)) from None


def _resolved(recipe: Recipe, where: str) -> Recipe:
    try:
        return recipe.resolved()
    except (ValueError, OSError) as error:
        raise RecipeError(f"{where}: {error}") from None
