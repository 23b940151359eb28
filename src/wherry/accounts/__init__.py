"""Accounts: registration, login, tokens, password links, roles, rate limits."""
