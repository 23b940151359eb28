"""PostgreSQL: pools, migrations, named queries, and the embedded server."""
