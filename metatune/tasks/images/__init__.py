"""Tasks of telling classes of images apart."""
