"""Capsule jobs: turn a GitNexus code graph into a capsule."""
