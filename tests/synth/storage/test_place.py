from pathlib import Path

import pytest

from synth.errors import StorageError
from synth.storage.place import local_path


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("a/b.zarr", "a/b.zarr"),
        ("/a:b/c", "/a:b/c"),
        ("a:b", "a:b"),
        ("a/s3://b", "a/s3:/b"),
        ("C:/corpora/a", "C:/corpora/a"),
        ("file:///a/b%20c.zarr", "/a/b c.zarr"),
        (Path("file:///a/b"), "/a/b"),
    ],
)
def test_local_places(place, path):
    assert local_path(place) == Path(path)


@pytest.mark.parametrize(
    "address", ["s3://b/c.zarr", "gs://b", "az://b/c", "HTTPS://host/a", "simplecache::s3://b/c", "abfs+x://b/c\nd"]
)
def test_other_places_are_refused(address):
    for place in (address, Path(address)):  # `pathlib` makes one slash of two
        with pytest.raises(StorageError, match="local files") as error:
            local_path(place)
        assert str(error.value).startswith(f"{address}: ")
