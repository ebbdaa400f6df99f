"""What Sphinx does for these pages: reference pages from the code, formulas as MathML, titles of files, docstrings."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from pydantic import BaseModel
from reference_pages import MADE

GENERATED = re.compile(r"^<!-- made by the build: (\w+) -->$", re.MULTILINE)
FILE = re.compile(r"^```(\w+)((?: \S+)*?) file=(\S+)((?: \S+)*)$", re.MULTILINE)
WORDS = re.compile(r"^```(\w+) .*$", re.MULTILINE)


def read(app: Any, page: str, source: list[str]) -> None:
    """A page's text: what the build makes of the code, and each file's name as the title of its block."""
    text = GENERATED.sub(lambda found: MADE[found[1]](), source[0])
    text = FILE.sub(r"```{code-block} \1\n:caption: \3\n", text)
    source[0] = WORDS.sub(r"```\1", text)


def mathml(formula: str, *, alone: bool) -> str:
    """A formula for the browser; bars and brackets are as high as a letter, and not set apart as operators are."""
    made = tex2mathml(formula, as_block=alone)
    return re.sub(r"<mo[^>]*>([|‖⌊⌋⌈⌉⟨⟩])</mo>", r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>', made)


def inline_math(writer: Any, node: nodes.math) -> None:
    """A formula in a line."""
    writer.body.append(mathml(node.astext(), alone=False))
    raise nodes.SkipNode


def block_math(writer: Any, node: nodes.math_block) -> None:
    """A formula of its own."""
    writer.body.append(f'<div class="math">{mathml(node.astext(), alone=True)}</div>')
    raise nodes.SkipNode


def docstring(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with code in backticks: |x| is a magnitude, and * a product."""
    for k, line in enumerate(lines):
        parts = re.split(r"(``?[^`]+``?)", line)
        lines[k] = "".join(part if k % 2 else re.sub(r"([|*])", r"\\\1", part) for k, part in enumerate(parts))


def signature(app: Any, what: str, name: str, thing: Any, options: Any, given: str | None, returns: str | None) -> Any:
    """Settings have keys instead of arguments; the reference lists them."""
    if isinstance(thing, type) and issubclass(thing, BaseModel):
        return "(**keys)", None
    return None


def setup(app: Any) -> dict[str, Any]:
    """Register all of it."""
    app.connect("source-read", read)
    app.connect("autodoc-process-docstring", docstring, priority=400)
    app.connect("autodoc-process-signature", signature)
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
