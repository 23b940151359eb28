"""Formats of artifacts: one file each, one registry."""
