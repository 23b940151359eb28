"""Tables: what a user declares about them, and what PostgreSQL's catalog says. Everything else is derived from that."""
