"""Bulk imports: source (bytes) → reader (bounded records) → decode (record or errors) → merge → report."""
