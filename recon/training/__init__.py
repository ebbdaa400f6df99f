"""The loop, and everything that a training is made of."""
