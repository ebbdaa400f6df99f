"""Output for people: progress, pictures, tables, pages."""
