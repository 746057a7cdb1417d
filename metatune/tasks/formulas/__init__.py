"""Tasks given by a formula, whose best learning is known."""
