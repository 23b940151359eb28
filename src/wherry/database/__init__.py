"""PostgreSQL: connection pools, migrations and named queries."""
