"""Tasks that are rows of a table."""
