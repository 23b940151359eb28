"""wherry moves data in and out of PostgreSQL in bulk, over HTTP, as jobs that survive crashes and restarts."""
