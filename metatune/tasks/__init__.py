"""Task families: where learning problems come from."""
