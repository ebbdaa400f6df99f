"""Bytes on disk, whatever they mean: shards, arrays, lists of files, and files that are written whole."""
