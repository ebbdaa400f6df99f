r"""What Fathom writes to a terminal: text alone, whatever the names of files hold.

A file's name may hold control characters: escape sequences, with which a terminal changes its title, its colours or
what it has shown before. They are written as Python writes them, such as ``\x1b``.
"""

from __future__ import annotations

import unicodedata

import typer

KEPT = "\n\t"
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format (such as right-to-left), lone surrogates, line separators


def say(text: str, *, err: bool = False) -> None:
    """Write a line to stdout, or to stderr."""
    typer.echo(shown(text), err=err)


def counted(count: int, noun: str) -> str:
    """A number with its noun, as in "1 slice", "2 slices"."""
    return f"{count} {noun}" + "s" * (count != 1)


def shown(text: str) -> str:
    """The text with control characters written out; line ends and tabs stay."""
    if text.isprintable():
        return text
    return "".join(_written_out(c) if unicodedata.category(c) in UNSEEN and c not in KEPT else c for c in text)


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
