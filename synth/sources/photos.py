"""Reading photographs: any still image file becomes a grey float image [y x] in 0 ... 1, or the reason is given."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import Field, model_validator

from ..errors import ImageFileError, SourceRejectedError, SourceUnreadableError, StorageError
from ..settings.spec import Range, Spec
from ..storage.copies import kept_copy
from ..storage.listing import files_below, is_list, names_in
from ..storage.objects import ObjectPlace
from ..storage.place import Place, place_of
from ..storage.whole import refuse_shortage
from . import heads
from .crimes import SourceFinding, crimes_of_photo
from .mr_images import SUFFIXES as PICTURE_SUFFIXES
from .mr_images import is_picture, items_of, read_picture

SUFFIXES = frozenset([".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".jp2"])
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "PPM", "JPEG2000")  # others start programs, as PostScript
MAX_BYTES = 512 * 2**20
MAX_PIXELS = 100_000_000
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, what Pillow and MATLAB's rgb2gray use

# Photographs in the scikit-image wheel whose docstrings say public domain, CC0 or no known copyright restrictions.
SKIMAGE_PHOTOS = (
    *("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "coffee.png", "coins.png"),
    *("grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "retina.jpg", "rocket.jpg"),
)


@dataclass(frozen=True)
class Photo:
    """A grey photograph [y x] in 0 ... 1, and the sha256 of the file it came from."""

    image: NDArray[np.float32]
    sha256: str
    findings: tuple[SourceFinding, ...] = ()  # traces of its history, see `synth.sources.crimes`


class ImagesSpec(Spec):
    """``[source] kind = "images"``: a folder of photographs with all subfolders, in the order of their paths.

    Or a list: a .txt file with one path per line, relative to the list's folder; lines that begin with # are ignored.
    The folder or the list may lie in an object store: ``path = "s3://bucket/photos"``.
    Two kinds need no path: ``kind = "skimage"`` takes the photographs that scikit-image carries, and ``kind = "heads"``
    takes computed heads (`synth.sources.heads`).
    """

    kind: Literal["images", "skimage", "heads"] = Field(
        description="images: photographs in a folder; skimage: those of scikit-image; heads: computed heads"
    )
    path: str | None = Field(
        default=None,
        min_length=1,
        description="kind 'images' only: a folder with all subfolders, a picture or volume, or a .txt file that lists "
        "one path per line",
    )
    manifest: str | None = Field(default=None, description="name of the public data set, for the corpus's card")
    part: Range = Field(
        default=(0.0, 1.0),
        description="part of the ordered sources, as fractions: [0, 0.45] to train, [0.55, 1] to test",
    )
    every: int | None = Field(default=None, ge=1, description="n: only every n-th source of that part")
    refuse: tuple[SourceFinding, ...] = Field(default=(), description="findings that reject a source, such as 'jpeg'")
    max_rejected: float = Field(default=0.05, ge=0, le=1, description="share of sources that may be unreadable")

    @model_validator(mode="after")
    def _path_fits_kind(self) -> ImagesSpec:
        if self.kind == "images" and self.path is None:
            raise ValueError("kind 'images' needs source.path, a folder of photographs")
        if self.kind != "images" and self.path is not None:
            raise ValueError(f"kind '{self.kind}' takes no path, and 'images' does: --set source.kind=images")
        if not 0 <= self.part[0] < self.part[1] <= 1:
            raise ValueError(f"part = {list(self.part)}: must be two fractions, the lower one first, within 0 and 1")
        return self

    @property
    def folder(self) -> Place:
        """Where the files are."""
        if self.path is not None:
            path = place_of(self.path)
            return path.parent if is_list(path) or _is_picture_file(path) else path
        if self.kind == "heads":
            return Path()  # they lie nowhere
        return skimage_folder()

    def list_files(self) -> list[str]:
        """Paths of the image files below `folder`, sorted; raises FileNotFoundError where there is none."""
        if self.kind == "heads":
            return self._parted(heads.names())
        if self.kind == "skimage":
            return self._parted([name for name in SKIMAGE_PHOTOS if (self.folder / name).exists()])
        if is_list(place_of(str(self.path))):
            return self._parted(self._items(names_in(place_of(str(self.path)))))
        if _is_picture_file(place := place_of(str(self.path))):
            return self._parted(self._items([place.name]))
        if not self.folder.is_dir():
            what = "is no picture and no folder" if self.folder.exists() else "does not exist"
            raise FileNotFoundError(
                f"source.path {self.folder} {what}; give a folder of photographs, or a list (--set source.path=FOLDER)"
            )
        names = files_below(self.folder, is_image)
        if not names:
            kinds = " ".join(sorted(SUFFIXES.union(PICTURE_SUFFIXES)))
            raise FileNotFoundError(f"source.path {self.folder} holds no image file ({kinds}); give a folder that does")
        return self._parted(self._items(names))

    def _items(self, names: list[str]) -> list[str]:
        """Photographs, and slices of volumes."""
        items = [name + item for name in names for item in (items_of(self.folder / name) if is_picture(name) else [""])]
        if not items:
            raise FileNotFoundError(f"source.path {self.folder} holds only empty volumes; give one with an image")
        return items

    def _parted(self, items: list[str]) -> list[str]:
        first, last = (round(share * len(items)) for share in self.part)
        if first == last:
            raise FileNotFoundError(f"source.part = {list(self.part)} of {len(items)} sources is empty; widen it")
        return items[first : last : self.every]


def _is_picture_file(path: Place) -> bool:
    """Whether a source's path is one picture or volume on a disk."""
    return isinstance(path, Path) and path.is_file() and is_image(path.name)


def skimage_folder() -> Path:
    """The folder of the images that scikit-image carries; raises FileNotFoundError where it is not installed."""
    found = importlib.util.find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("source.kind 'skimage' needs scikit-image; pip install scikit-image")
    return Path(found.submodule_search_locations[0]) / "data"


def is_image(name: str) -> bool:
    """Whether a file's name is that of a photograph or an MR picture."""
    return Path(name).suffix.lower() in SUFFIXES or is_picture(name)


def read_photo(path: Place) -> Photo:
    """Read one image file as a grey photo [y x]; raises SourceRejectedError or SourceUnreadableError.

    Size and pixel count are checked before anything is decoded. Transparent parts become black (no signal, as air in a
    scan), palettes and CMYK become RGB, 16-bit grey is kept (of 16-bit colour Pillow gives 8 bits), and the EXIF
    orientation is applied. A file of several frames is refused, because it is not known which frame is the picture.
    """
    if path.suffix == heads.SUFFIX:
        return Photo(*heads.computed_head(path.name))
    if is_picture(path.name):
        return _mr_picture(path)
    data = _read_bytes(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warnings about size and odd tags: the checks below decide
            with Image.open(io.BytesIO(data), formats=FORMATS) as file:
                image, jpeg = _decode(path, file), file.format in ("JPEG", "MPO")
    except SourceRejectedError:
        raise
    except UnidentifiedImageError:
        raise SourceRejectedError(f"{path}: not an image that Pillow can read; remove it or convert it") from None
    except Image.DecompressionBombError:
        raise SourceRejectedError(f"{path}: over the limit of {MAX_PIXELS:,} pixels; resize it first") from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
        KeyError,
        TypeError,
        ArithmeticError,
        AttributeError,
        RuntimeError,
        struct.error,
    ) as error:
        raise SourceRejectedError(f"{path}: cannot be decoded ({error}); remove it or save it anew") from None
    return Photo(image, hashlib.sha256(data).hexdigest(), crimes_of_photo(image, jpeg=jpeg))


def _mr_picture(path: Place) -> Photo:
    """A DICOM image, or a slice of a NIfTI volume, whose path ends in ``#slice``."""
    name, _, number = path.name.partition("#")
    file = path.parent / name
    with _here(file) as copy:
        data = _read_bytes(copy)
        try:
            values = read_picture(file, int(number) if number else None)
        except (ImageFileError, OSError) as error:
            refuse_shortage(error)
            raise SourceRejectedError(f"{path}: {error}") from None
    grey = values / np.float32(max(float(np.abs(values).max()), 1e-30))
    _refuse_no_photo(path, grey)
    return Photo(grey, hashlib.sha256(data).hexdigest(), ("mr-picture",))  # its other traces come from the scanner


@contextlib.contextmanager
def _here(file: Place) -> Iterator[Path]:
    """A file that other libraries can read; raises SourceUnreadableError where an object is gone."""
    try:
        with kept_copy(file) as here:
            yield here
    except FileNotFoundError:
        raise SourceUnreadableError(f"{file}: the file is gone; put it back and run the same command again") from None


def _read_bytes(path: Place) -> bytes:
    try:
        if isinstance(path, ObjectPlace):
            return _bytes_of_object(path)
        if not path.is_file() and path.exists():
            raise SourceRejectedError(f"{path}: is not a file; remove it")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise SourceRejectedError(
                f"{path}: {size / 2**20:.0f} MB, over the limit of {MAX_BYTES >> 20} MB; shrink it"
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise SourceUnreadableError(f"{path}: the file is gone; put it back and run the same command again") from None
    except OSError as error:
        refuse_shortage(error)
        remedy = "make it readable or remove it, and run the same command again"
        raise SourceUnreadableError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None


def _bytes_of_object(place: ObjectPlace) -> bytes:
    try:
        return place.read(MAX_BYTES)
    except StorageError:
        raise
    except ValueError:
        raise SourceRejectedError(f"{place}: over the limit of {MAX_BYTES >> 20} MB; shrink it") from None


def _decode(path: Place, file: Image.Image) -> NDArray[np.float32]:
    if file.width * file.height > MAX_PIXELS:
        raise SourceRejectedError(
            f"{path}: {file.width}x{file.height} is over the limit of {MAX_PIXELS:,} pixels; resize it first"
        )
    if getattr(file, "is_animated", False) and file.format != "MPO":  # MPO: a JPEG with previews or a gain map behind
        raise SourceRejectedError(f"{path}: has several frames; save the one you want as a still image")
    grey = _grey(ImageOps.exif_transpose(file))
    _refuse_no_photo(path, grey)
    return grey


def _refuse_no_photo(path: Place, grey: NDArray[np.float32]) -> None:
    if not np.isfinite(grey).all():
        raise SourceRejectedError(f"{path}: has pixels that are NaN or infinite; save it anew")
    if grey.min() < 0:
        raise SourceRejectedError(f"{path}: has negative values, which no photograph has; save its magnitude")
    if grey.min() == grey.max():
        raise SourceRejectedError(f"{path}: every pixel has the same value, there is nothing to reconstruct; remove it")


def _grey(file: Image.Image) -> NDArray[np.float32]:
    if file.mode.startswith("I") or file.mode == "F":  # 16 or 32 bits, or float: already grey
        values = np.asarray(file, np.float32)
        return values / np.float32(max(65535.0 if file.mode != "F" else 1e-30, float(np.abs(values).max())))
    if file.mode in ("1", "L"):
        return np.asarray(file.convert("L"), np.float32) / np.float32(255)
    has_alpha = "A" in file.getbands() or "transparency" in file.info
    bands = file.convert("RGBA" if has_alpha else "RGB").split()
    grey = np.zeros((file.height, file.width), np.float32)
    for weight, band in zip(LUMA, bands, strict=False):  # one by one: four at once take four times the memory
        grey += np.float32(weight / 255) * np.asarray(band)
    if has_alpha:
        grey *= np.asarray(bands[3]) * np.float32(1 / 255)
    return grey
