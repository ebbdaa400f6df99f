"""Files on disk, independent of their meaning: shards, arrays, lists of files, and files that are written whole."""
