"""A report that people look at: one HTML file without any link outwards, and its figures as PNG."""
