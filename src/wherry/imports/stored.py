"""Finds the stored source of an import."""

from __future__ import annotations

from wherry.imports.readers import FORMATS
from wherry.imports.source import SourceText
from wherry.jobs.models import Job
from wherry.settings import Settings
from wherry.storage.store import Store


def source_text(store: Store, job: Job, settings: Settings) -> SourceText:
    """The source of an import."""
    source = job.source or {}
    return SourceText(
        store,
        str(source["key"]),
        settings.import_max_file_size,
        charset=source.get("charset"),
        may_be_utf16=FORMATS[job.format].any_encoding,
    )
