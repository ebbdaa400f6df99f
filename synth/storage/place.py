"""Where bytes are: today in local files and folders alone."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from ..errors import StorageError

# `pathlib` joins the two slashes of an address to one; a drive of Windows has one letter.
ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+(?:::[A-Za-z0-9+.-]+)*):/+(.*)", re.DOTALL)


def local_path(place: str | Path) -> Path:
    """The local path of a place that a user names: a path, or an address ``file:///folder``.

    Raises StorageError for the address of an object store or of a web server: taken as a path, it would be a folder
    with the name ``s3:``.
    """
    found = ADDRESS.match(str(place))
    if found is None:
        return Path(place)
    if found[1].lower() != "file":
        raise StorageError(
            f"{found[1]}://{found[2]}: Fathom reads and writes local files, not {found[1]}://; give the path of a "
            "local file or folder"
        )
    return Path("/" + unquote(found[2]))
