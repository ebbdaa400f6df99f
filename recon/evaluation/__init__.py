"""Evaluation of reconstructions: metrics, probes, a row of numbers per pair, and intervals."""
