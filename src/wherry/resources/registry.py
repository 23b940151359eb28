"""All resources, in an order in which they can be imported: referenced ones first."""

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
    """The resource with that name, in any case.

    Raises:
        Invalid: no such resource; the message lists the resources.
    """
    resource = RESOURCES.get(name.strip().lower()) if isinstance(name, str) else None
    if resource is None:
        raise UnsupportedResource(f"resource must be one of {', '.join(RESOURCES)}", field="resource")
    return resource
