"""Public data sets: what they are, whether a folder holds them, and splits that share no subject."""
