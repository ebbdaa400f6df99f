"""The line: each stage draws its numbers, is applied, and keeps what was drawn."""
