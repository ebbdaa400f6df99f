"""What is done with training pairs: loading them, reconstructing from them."""
