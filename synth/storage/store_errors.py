"""The errors of an object store, told as Fathom tells errors: the place, what is wrong, and the remedy."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator
from typing import Any

from ..errors import StoreError
from .credentials import remedy

MISSING = re.compile("NoSuchBucket|ContainerNotFound|bucket does not exist", re.IGNORECASE)
NO_KEYS = re.compile(r"169\.254\.169\.254|metadata\.google|InstanceCredentials|credential|identity", re.IGNORECASE)
REGION = re.compile("PermanentRedirect|AuthorizationHeaderMalformed|without LOCATION|incorrectly configured region")


@contextlib.contextmanager
def told(place: Any) -> Iterator[None]:
    """Raise what a store says as FileNotFoundError, FileExistsError or StoreError, with the place and the remedy.

    The store's own text is not repeated: it may hold an address with a signature.
    """
    try:
        yield
    except Exception as error:
        raised = _told(place, error)
        if raised is None:
            raise
        raise raised from None


def _told(place: Any, error: Exception) -> Exception | None:
    """The error to raise in place of one of the library's; None for an error of another origin."""
    kind, text = type(error).__name__, str(error)
    if isinstance(error, FileNotFoundError) and error.errno is None:
        if MISSING.search(text):
            return StoreError(f"{place}: there is no bucket {place.store}; correct the address, or make the bucket")
        return FileNotFoundError(errno.ENOENT, "no such object", str(place))
    if not type(error).__module__.startswith("obstore") and not isinstance(error, PermissionError):
        return None
    if kind in ("AlreadyExistsError", "PreconditionError"):
        return FileExistsError(errno.EEXIST, "is there already", str(place))
    if MISSING.search(text):
        return StoreError(f"{place}: there is no bucket {place.store}; correct the address, or make the bucket")
    if REGION.search(text):
        return StoreError(f"{place}: the bucket is in another region; set AWS_REGION to the bucket's")
    if kind in ("PermissionDeniedError", "UnauthenticatedError", "PermissionError"):
        return StoreError(f"{place}: the store refused the credentials, or what they may do; {remedy(place.store)}")
    if NO_KEYS.search(text):
        return StoreError(f"{place}: no credentials were found; {remedy(place.store)}")
    status = re.search(r"status code: (\d{3})", text)
    endpoint = "AWS_ENDPOINT_URL" if place.store.startswith("s3:") else "the endpoint in the environment"
    why = f"it answered {status[1]}" if status else "there was no answer, or not a whole one"
    return StoreError(
        f"{place}: the store could not be used, also not after several tries ({why}); check {endpoint} and the "
        "network, and run the same command again"
    )
