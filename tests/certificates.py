"""Certificates for tests: an authority of their own and what it signs, made with the program openssl."""

import shutil
import subprocess

import pytest

NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def authority(folder):
    """Make an authority and a certificate with its key that it has signed: (ca, certificate, key), paths of PEM files.

    Scheduler, workers and client use the same certificate here; Dask asks only who has signed it.
    """
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl is not here")
    folder.mkdir(parents=True)
    _openssl(folder, "req", "-x509", *NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test", "-days", "2")
    _openssl(folder, "req", *NEW_KEY, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=member")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
    _openssl(folder, "x509", "-req", "-in", "request.pem", "-out", "certificate.pem", *signed)
    return [folder / name for name in ("ca.pem", "certificate.pem", "key.pem")]


def _openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=30)


def flags(files):
    """The files as options of `fathom build`, and, with the same names, of `dask scheduler` and `dask worker`."""
    return [part for pair in zip(("--tls-ca-file", "--tls-cert", "--tls-key"), files, strict=True) for part in pair]
