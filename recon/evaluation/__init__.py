"""How close reconstructions come: metrics, probes, rows per pair, and intervals."""
