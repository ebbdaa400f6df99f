"""Corpora: built, verified, looked at, exported."""
