"""What TOML files are read against: frozen models, and errors that name file, line, key and remedy."""
