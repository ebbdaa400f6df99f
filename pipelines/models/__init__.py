"""Models by name: tested on corpora, and used on scans."""
