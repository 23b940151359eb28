"""The whole service on one machine: an embedded PostgreSQL, and the processes of `wherry up`."""
