"""Models by name: how they are tested on corpora and used on scans."""
