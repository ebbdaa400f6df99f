"""HTML pages that need no other file: they share one style, hold their pictures, and escape all data."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2


def page(template: str, pictures: Sequence[tuple[str, bytes]], **values: Any) -> bytes:
    """Fill a template of ``pipelines/display/templates``; `pictures` are captions and PNGs."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    inside = [{"caption": caption, "data": base64.b64encode(data).decode()} for caption, data in pictures]
    return environment.get_template(template).render(pictures=inside, **values).encode()
