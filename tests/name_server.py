"""Answers the DNS lookups of a test's own event loop."""

from __future__ import annotations

import asyncio
import socket

import pytest


class NameServer:
    """Resolves `data.example` to each of the answers in turn, and then always to the last one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0
        loop = asyncio.get_running_loop()
        self._real = loop.getaddrinfo
        monkeypatch.setattr(loop, "getaddrinfo", self._look_up)

    async def _look_up(self, host: object, port: object, **kwargs: object) -> list[object]:
        if host not in ("data.example", b"data.example"):
            return await self._real(host, port, **kwargs)  # type: ignore[arg-type,return-value]
        self.asked += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]
