"""`python -m wherry` is `wherry`."""

from __future__ import annotations

from wherry.cli import main

main()
