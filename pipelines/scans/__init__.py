"""Scans: their noise, and libraries of their coil maps."""
