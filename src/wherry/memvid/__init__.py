"""Capsules: searchable `.mv2` files, written and searched in separate processes."""
