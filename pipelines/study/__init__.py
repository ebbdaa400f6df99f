"""Studies: their stages, results and reports."""
