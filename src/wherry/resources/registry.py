"""Every resource there is, in the order in which references allow them to be imported."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from wherry.errors import UnsupportedResource
from wherry.resources.articles import ARTICLES
from wherry.resources.comments import COMMENTS
from wherry.resources.model import Resource
from wherry.resources.users import USERS

RESOURCES: Mapping[str, Resource] = MappingProxyType(
    {resource.name: resource for resource in (USERS, ARTICLES, COMMENTS)}
)


def find_resource(name: object) -> Resource:
    """The resource of that name, in any case.

    Raises:
        Invalid: there is no such resource; the message lists those there are.
    """
    resource = RESOURCES.get(name.strip().lower()) if isinstance(name, str) else None
    if resource is None:
        raise UnsupportedResource(f"resource must be one of {', '.join(RESOURCES)}", field="resource")
    return resource
