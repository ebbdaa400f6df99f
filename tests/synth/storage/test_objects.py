"""Objects in a store: read, listed, written whole, written on condition; and errors that say what to do."""

import builtins
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from object_store import BUCKET, KEYS, environment

from synth.errors import StorageError, StoreError
from synth.storage import lease, objects
from synth.storage.objects import ObjectPlace
from synth.storage.place import place_of
from synth.storage.store_errors import told
from synth.storage.whole import UncheckedWarning, read_document


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("s3://bucket/a/b.zarr", ObjectPlace("s3://bucket", "a/b.zarr")),
        ("s3:/bucket/a/b.zarr/", ObjectPlace("s3://bucket", "a/b.zarr")),  # as `pathlib` writes it
        (Path("GS://bucket/a"), ObjectPlace("gs://bucket", "a")),
        ("az://container/a", ObjectPlace("az://container", "a")),
        ("a/b.zarr", Path("a/b.zarr")),
        ("file:///a/b", Path("/a/b")),
    ],
)
def test_places(address, place):
    assert place_of(address) == place
    assert place_of(place) == place


@pytest.mark.parametrize("address", ["s3://bucket", "s3://bucket/", "s3://b/a/../c", "s3://b/a//c", "https://h/a"])
def test_addresses_without_a_place(address):
    with pytest.raises(StorageError, match="s3://"):
        place_of(address)


def test_an_object(store):
    place = place_of(f"{BUCKET}/one/a b+é.bin")
    assert not place.exists()
    with pytest.raises(FileNotFoundError, match="one/a b"):
        place.read()
    data = bytes(range(256)) * 8
    place.put(data)
    assert (place.read(), place.size(), place.read_end(3)) == (data, 2048, data[-3:])
    assert [bytes(part) for part in place.read_ranges([5, 900, 7], 10)] == [data[k : k + 10] for k in (5, 900, 7)]
    assert b"".join(bytes(part) for part in place.stream()) == data
    assert read_document(place) == data
    with pytest.raises(ValueError, match="2,048 bytes, more than the 2,047"):
        read_document(place, 2047)
    assert place.parent.exists()
    assert not place.parent.is_file()
    place.delete()
    place.delete()
    assert not place.exists()


def test_what_lies_below(store):
    root = place_of(f"{BUCKET}/tree")
    for name in ("a/b/c", "a/d", "e"):
        (root / name).put(name.encode())
    place_of(f"{BUCKET}/tree-beside").put(b"")
    assert sorted(root.below()) == [("a/b/c", 5), ("a/d", 3), ("e", 1)]
    assert root.folders() == ["a"]
    assert (root / "a" / "d").name == "d"


def test_written_on_condition(store):
    place = place_of(f"{BUCKET}/lease")
    assert place.put_new(b"first")
    assert not place.put_new(b"second")
    assert place.put_new(b"first")  # a request that was sent again, because its answer was lost
    assert place.read() == b"first"
    others = [place_of(f"{BUCKET}/race") for _ in range(8)]
    won = objects.together([lambda p=p, k=k: p.put_new(b"%d" % k) for k, p in enumerate(others)])
    assert sum(won) == 1
    assert others[0].read() == b"%d" % won.index(True)


def test_a_store_that_ignores_conditions_is_told(store, monkeypatch):
    place = place_of(f"{BUCKET}/claimed")
    monkeypatch.setattr(ObjectPlace, "put_new", lambda self, data: self.put(data) or True)
    told_so = "does not write on condition.*begin one `fathom train` at a time"
    with pytest.warns(UncheckedWarning, match=told_so), lease.claimed(place, "fathom train"):
        assert json.loads((place / "claim/00000001.json").read())["process"] == os.getpid()
    assert not place.exists()


@pytest.mark.parametrize(("scheme", "name"), [("s3", "AWS_PROFILE"), ("gs", "GOOGLE_"), ("az", "AZURE_STORAGE_")])
def test_remedies_are_those_of_the_store(scheme, name):
    message = rf"{scheme}://b/a: the store refused the credentials.*{name}"
    with pytest.raises(StoreError, match=message), told(ObjectPlace(f"{scheme}://b", "a")):
        raise PermissionError("no")


def test_no_bucket(store):
    nowhere = f"{BUCKET.partition('://')[0]}://nowhere"
    with pytest.raises(StoreError, match=f"there is no bucket {nowhere}; correct the address"):
        place_of(f"{nowhere}/a").read()
    with pytest.raises(StoreError, match="there is no bucket"):
        place_of(f"{nowhere}/a").put(b"")


def test_no_credentials(tmp_path):
    pytest.importorskip("obstore")
    with (
        environment({"AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}),
        pytest.raises(StorageError, match=r"s3://bucket: no credentials were found; set AWS_ACCESS_KEY_ID"),
    ):
        place_of("s3://bucket/a").read()


@pytest.mark.skipif(not BUCKET.startswith("s3:"), reason="only S3 has profiles")
def test_keys_of_a_profile(store, tmp_path):
    keys = "\n".join(f"{name.lower()} = {store[name]}" for name in KEYS)
    (tmp_path / "keys").write_text(f"[x]\n{keys}\n")
    values = {name: value for name, value in store.items() if name not in KEYS}
    place_of("s3://bucket/profile").put(b"1")
    with environment({**values, "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "keys"), "AWS_PROFILE": "x"}):
        assert place_of("s3://bucket/profile").read() == b"1"
    objects._store.cache_clear()


def test_without_the_package(monkeypatch):
    real = builtins.__import__

    def absent(name, *rest):
        if name == "obstore":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(StorageError, match=r'pip install "fathom-mri\[s3\]"'):
        place_of("s3://bucket/a").read()


def test_local_corpora_need_no_package():
    code = "import sys; sys.modules['obstore'] = None; import recon.data.datasets, synth.storage.place as p"
    subprocess.run([sys.executable, "-c", code + "; p.place_of('a')"], check=True, timeout=60)


@contextmanager
def answers(*given):
    """A server that gives these answers (status, body, promised length) in turn, and the last one for ever."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            status, body, length = given[min(len(seen), len(given) - 1)]
            seen.append(self.path)
            self.send_response(status)
            for name, value in (
                ("Content-Length", str(length)),
                ("ETag", '"1"'),
                *([("Content-Range", "bytes 3-4/5")] if status == 206 else []),
                ("Last-Modified", "Tue, 21 Oct 2025 07:28:00 GMT"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = len(body) != length

        def log_message(self, *_):
            pass

    pytest.importorskip("obstore")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with environment({**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}):
            yield seen
    finally:
        server.shutdown()
        server.server_close()


def test_passing_failures_are_tried_again():
    busy, whole, torn = (503, b"", 0), (200, b"12345", 5), (200, b"123", 5)
    rest = (206, b"45", 2)
    with answers(busy, busy, whole) as seen:
        assert place_of("s3://bucket/a").read() == b"12345"
        assert len(seen) == 3
    with answers(torn, rest) as seen:
        assert place_of("s3://bucket/a").read() == b"12345"
        assert len(seen) == 2


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_server_in_place_of_googles(scheme, monkeypatch):
    with answers((200, b"12345", 5)) as seen:
        host = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"{scheme}{host}/")
        assert place_of("gs://bucket/a/b").read() == b"12345"
        assert seen == ["/bucket/a%2Fb"]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "https://host")
    assert objects.access("gs://bucket")["client_options"]["allow_http"] is False
    assert "allow_http" not in objects.access("az://bucket")["client_options"]


def test_lasting_failures_name_place_and_remedy(monkeypatch):
    monkeypatch.setitem(objects.access.__globals__["RETRY"], "max_retries", 1)
    secret = KEYS["AWS_SECRET_ACCESS_KEY"]
    for status, what in ((500, "it answered 500.*AWS_ENDPOINT_URL"), (403, "refused the credentials")):
        body = f"<Error>{secret}</Error>".encode()
        with answers((status, body, len(body))), pytest.raises(StoreError, match=what) as error:
            place_of("s3://bucket/a").read()
        assert str(error.value).startswith("s3://bucket/a: ")
        assert secret not in str(error.value)
        assert KEYS["AWS_ACCESS_KEY_ID"] not in str(error.value)
