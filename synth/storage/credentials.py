"""How an object store is reached: keys and endpoints from the environment, which go nowhere else."""

from __future__ import annotations

import configparser
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from ..errors import StorageError

RETRY = {
    "max_retries": 6,
    "retry_timeout": timedelta(seconds=120),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10), "base": 2},
}
TIMES = {"timeout": "300s", "connect_timeout": "5s"}
ROLES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # from which the library obtains keys by itself
HOW = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for keys in ~/.aws/credentials, or "
    "AWS_SKIP_SIGNATURE=true for a public bucket"
)
OTHERS = {
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account's key",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


def remedy(address: str) -> str:
    """What to set where keys for a store's address are missing or refused."""
    return OTHERS.get(address.partition(":")[0], HOW)


def access(address: str) -> dict[str, Any]:
    """The arguments with which a store is opened; raises StorageError where there are no keys for S3.

    Keys, region and endpoint are those that the environment gives: ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
    ``AWS_SESSION_TOKEN``, ``AWS_REGION``, ``AWS_ENDPOINT_URL``, ``AWS_PROFILE`` and ``~/.aws/credentials``, a role of
    the machine, ``GOOGLE_...`` or ``STORAGE_EMULATOR_HOST``, and ``AZURE_...``. Only an endpoint that is given as
    ``http://`` is talked to without encryption.
    """
    settings: dict[str, Any] = {"retry_config": RETRY, "client_options": dict(TIMES)}
    if address.startswith("gs://") and (emulator := os.environ.get("STORAGE_EMULATOR_HOST")):
        return {**settings, **_emulated(emulator, settings["client_options"])}
    if not address.startswith("s3://"):
        return settings
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    if endpoint:
        settings["endpoint"] = endpoint
        settings["client_options"]["allow_http"] = endpoint.startswith("http://")
    if "AWS_REGION" not in os.environ:
        settings["region"] = os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
    if os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true"):
        return {**settings, "skip_signature": True}
    if "AWS_ACCESS_KEY_ID" in os.environ or any(name in os.environ for name in ROLES):
        return settings
    keys = _keys_of_profile()
    if not keys and os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise StorageError(f"{address}: no credentials were found; {HOW}")
    return {**settings, **keys}


def _emulated(host: str, options: dict[str, Any]) -> dict[str, Any]:
    """The arguments for a server that stands in for Google's and asks for no keys, as its clients are pointed to one.

    The library is told so by a key that names the server: a field of its own in the file of a service account's key
    (``GoogleCloudStorageBuilder::with_service_account_key`` of the crate object_store).
    """
    base = (host if "://" in host else f"http://{host}").rstrip("/")
    key = {"gcs_base_url": base, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
    options = {**options, "allow_http": base.startswith("http://")}
    return {"service_account_key": json.dumps(key), "client_options": options}


def _keys_of_profile() -> dict[str, str]:
    """The keys of ``AWS_PROFILE`` in the file that AWS's own tools keep; none where there is no such profile."""
    file = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")).expanduser()
    profiles = configparser.RawConfigParser()
    try:
        profiles.read(file)
        profile = dict(profiles[os.environ.get("AWS_PROFILE", "default")])
    except (KeyError, OSError, configparser.Error, UnicodeDecodeError):
        return {}
    names = {
        "aws_access_key_id": "access_key_id",
        "aws_secret_access_key": "secret_access_key",
        "aws_session_token": "session_token",
    }
    return {argument: profile[name] for name, argument in names.items() if name in profile}
