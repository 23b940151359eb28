"""Stores sources and artifacts in a local directory or a bucket, and fetches sources from URLs."""
