"""HTML pages that need no other file: they share one style, hold their pictures, and escape all data."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

Picture = tuple[str, bytes | Sequence[bytes]]  # a caption and a PNG, or several that stand side by side


def page(
    template: str,
    pictures: Sequence[Picture],
    first: Sequence[Picture] = (),
    folded: Sequence[Picture] = (),
    **values: Any,
) -> bytes:
    """Fill a template of ``pipelines/display/templates`` with pictures.

    `first` stand at the top; `folded` are shown when they are asked for.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    inside, top, more = ([_inside(*picture) for picture in part] for part in (pictures, first, folded))
    return environment.get_template(template).render(pictures=inside, first=top, folded=more, **values).encode()


def _inside(caption: str, images: bytes | Sequence[bytes]) -> dict[str, Any]:
    parts = [images] if isinstance(images, bytes) else images
    return {"caption": caption, "images": [base64.b64encode(data).decode() for data in parts]}
