"""Studies: stages, what came of them, and the report."""
