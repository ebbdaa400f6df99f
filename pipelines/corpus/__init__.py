"""Corpora: how they are built, verified, inspected and exported."""
