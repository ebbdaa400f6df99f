"""Pairs on disk: planned as shards, written by tasks, checked, and read."""
