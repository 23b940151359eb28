"""Reads what comes by name, in a query or a form, the same way on every route.

In: names, each with every value that it was given. Out: one value for each, as text, a number, a choice or a UUID; or
`Invalid`, which names the parameter and says what it must be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID

from litestar import Request

from wherry.errors import Invalid

MAX_DIGITS = 18
"""More than any number here has; a longer one need not be read."""

Choice = TypeVar("Choice", bound=StrEnum)


def once(given: Mapping[str, Sequence[str]], names: Iterable[str]) -> dict[str, str]:
    """The value of each of these names that is there; others are ignored.

    Raises:
        Invalid: on every name that is there more than once.
    """
    found = {name: given[name] for name in names if given.get(name)}
    repeated = {name: [f"{name} must be given once"] for name, values in found.items() if len(values) > 1}
    if repeated:
        raise Invalid("; ".join(message for [message] in repeated.values()), fields=repeated)
    return {name: values[0] for name, values in found.items()}


def query_of(request: Request[Any, Any, Any]) -> dict[str, list[str]]:
    """The query: each name with every value that it was given."""
    return {name: request.query_params.getall(name) for name in request.query_params}


@dataclass(frozen=True)
class Query:
    """The parameters of a query, each given once."""

    values: Mapping[str, str]

    @classmethod
    def of(cls, request: Request[Any, Any, Any], *names: str) -> Query:
        """Those that a route knows.

        Raises:
            Invalid: one is given more than once.
        """
        return cls(once(query_of(request), names))

    def text(self, name: str) -> str | None:
        """As it was given."""
        return self.values.get(name)

    def whole(self, name: str, *, least: int, default: int, most: int | None = None) -> int:
        """An integer within bounds, both included, in digits alone: `1e3` and `1.0` are none to a client.

        Raises:
            Invalid: it is none, or out of bounds.
        """
        text = self.values.get(name)
        if text is None:
            return default
        number = int(text) if text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS else -1
        if number < least or (most is not None and number > most):
            bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
            raise Invalid(f"{name} must be an integer {bounds}", field=name)
        return number

    def choice(self, name: str, choices: type[Choice]) -> Choice | None:
        """One of a few words.

        Raises:
            Invalid: another.
        """
        text = self.values.get(name)
        if text is None:
            return None
        try:
            return choices(text)
        except ValueError as error:
            raise Invalid(f"{name} must be one of {', '.join(choices)}", field=name) from error

    def uuid(self, name: str) -> UUID | None:
        """A UUID.

        Raises:
            Invalid: it is none.
        """
        text = self.values.get(name)
        try:
            return None if text is None else UUID(text)
        except ValueError as error:
            raise Invalid(f"{name} must be a UUID", field=name) from error
