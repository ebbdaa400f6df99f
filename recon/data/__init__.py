"""Pairs as batches of tensors: datasets, the loader, and the same items as other projects take them."""
