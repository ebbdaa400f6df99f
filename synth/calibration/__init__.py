"""What is learnt from scans: their noise, and the sensitivity maps of their coils."""
