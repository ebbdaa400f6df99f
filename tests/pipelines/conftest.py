import pytest
from conftest import write_photos
from processes import LARGE, built


@pytest.fixture(scope="session")
def large(tmp_path_factory):
    """A recipe that takes some seconds to build, and the hash of its pairs: (TOML file, hash)."""
    folder = tmp_path_factory.mktemp("large")
    file = folder / "large.toml"
    file.write_text(LARGE.format(pairs=60, photos=write_photos(folder / "photos", 4, (330, 400))))
    return file, built(file, "--out", folder / "reference.zarr", "--scheduler", "sync")["content_hash"]
