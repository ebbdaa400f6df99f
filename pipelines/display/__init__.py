"""What people look at: progress, pictures, tables, pages."""
