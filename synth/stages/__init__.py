"""The stages of the synthesis: each draws its numbers, is applied, and keeps the drawn numbers."""
