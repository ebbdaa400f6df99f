"""The training loop and its parts: settings, losses, optimisers, checkpoints and records."""
