"""Tasks that are stretches of time series."""
