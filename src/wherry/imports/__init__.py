"""Bulk imports: source (text) → splitters (raw records) → decode (record or errors) → merge (rows) → report."""
