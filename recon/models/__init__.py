"""Networks, baselines, and the solvers that they share: all are called ``model(batch) -> image``."""
