from pathlib import Path

import pytest

from synth.errors import StorageError
from synth.storage.place import below_one_folder, local_path, place_of


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
        ("~/scans", Path.home() / "scans"),
        ("a/~/b", "a/~/b"),
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


@pytest.mark.parametrize(
    ("files", "folder", "paths"),
    [
        (["/a/b/c.png", "/a/d.png"], "/a", ["b/c.png", "d.png"]),
        (["/a/b/c.png"], "/a/b", ["c.png"]),
        (["s3://b/p/x/1.png", "s3://b/p/xy/2.png"], "s3://b/p", ["x/1.png", "xy/2.png"]),
        (["s3://b/p/1.png"], "s3://b/p", ["1.png"]),
        (["s3://b/p/1.png", "s3://b/q/2.png"], None, None),  # the whole bucket
        (["s3://b/p/1.png", "s3://c/p/2.png"], None, None),
        (["s3://b/p/1.png", "/p/2.png"], None, None),
    ],
)
def test_the_folder_of_all_files(files, folder, paths):
    found = below_one_folder([place_of(file) for file in files])
    assert found == (None if folder is None else (place_of(folder), paths))
