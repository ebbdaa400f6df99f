"""Validation of TOML files: frozen models, and errors that name file, line, key and remedy."""
