"""Capsules: a graph or records as one searchable `.mv2` file, written in a process of its own."""
