"""Exports: records that a client selects, read in one snapshot, as a stored file or as a page."""
