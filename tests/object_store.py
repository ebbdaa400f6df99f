"""An S3 server on the loopback for tests, which start and stop it.

``FATHOM_TEST_S3=http://127.0.0.1:9000`` takes another one, which runs already and has an empty bucket ``bucket`` for
the keys in ``FATHOM_TEST_S3_KEYS=id:secret``. ``FATHOM_TEST_STORE=gs://bucket`` takes an empty bucket of another store,
which the rest of the environment says how to reach: ``tests/google_store.py`` runs one of Google's kind, and Azurite
one of Azure's (``az://bucket``, ``AZURE_STORAGE_USE_EMULATOR=true``).
"""

import logging
import os
import urllib.request
from contextlib import contextmanager

import pytest

from synth.storage.objects import ObjectPlace

BUCKET = os.environ.get("FATHOM_TEST_STORE", "s3://bucket")  # all that lies in it is removed
KEYS = {"AWS_ACCESS_KEY_ID": "key-of-tests", "AWS_SECRET_ACCESS_KEY": "secret-of-tests"}


@contextmanager
def store_server():
    """The environment in which Fathom finds the server; it has one bucket, `BUCKET`."""
    pytest.importorskip("obstore", reason="obstore is not installed (the extra s3)")
    if other := os.environ.get("FATHOM_TEST_S3"):
        yield _emptied(other)
        return
    if "FATHOM_TEST_STORE" in os.environ:
        bucket = ObjectPlace(BUCKET, "")
        for name, _ in list(bucket.below()):
            (bucket / name).delete()
        yield {}
        return
    server = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        host, port = running.get_host_and_port()
        address = f"http://{host}:{port}"
        with urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT"), timeout=10):
            pass
        yield {**KEYS, "AWS_ENDPOINT_URL": address, "AWS_EC2_METADATA_DISABLED": "true"}
    finally:
        running.stop()


def _emptied(address):
    """The environment of a server that runs already; what earlier tests left in its bucket is removed."""
    import obstore
    from obstore.store import S3Store

    key, secret = os.environ.get("FATHOM_TEST_S3_KEYS", ":".join(KEYS.values())).split(":")
    how = {"region": "us-east-1", "client_options": {"allow_http": True}}
    store = S3Store("bucket", endpoint=address, access_key_id=key, secret_access_key=secret, **how)
    for page in obstore.list(store):
        for found in page:
            obstore.delete(store, found["path"])
    keys = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    return {**keys, "AWS_ENDPOINT_URL": address, "AWS_EC2_METADATA_DISABLED": "true"}


@contextmanager
def environment(values):
    """Run with these variables and without any other of AWS's; stores that were opened before are forgotten."""
    from synth.storage import objects

    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(values)
    objects._store.cache_clear()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        objects._store.cache_clear()


def upload(folder, place):
    """Copy a folder's files to a store."""
    for file in folder.rglob("*"):
        if file.is_file():
            (place / file.relative_to(folder).as_posix()).put(file.read_bytes())
