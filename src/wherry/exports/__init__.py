"""Exports: a selection, read in one snapshot, written in one of several formats, stored or sent."""
