"""wherry carries data in and out of PostgreSQL, in bulk, over HTTP, as jobs that survive anything."""
