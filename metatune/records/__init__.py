"""Records: what was measured, first as synced log lines, then as Parquet, read as frames."""
