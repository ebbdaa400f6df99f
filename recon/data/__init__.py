"""Pairs as batches of tensors: datasets, the loader, and adapters to the training code of other projects."""
