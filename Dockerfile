# syntax=docker/dockerfile:1

# Debian 12: glibc 2.36, and the capsule writer's wheel needs 2.35
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir --disable-pip-version-check uv==0.13.9
WORKDIR /app
# dependencies first: this layer is built anew only when pyproject.toml changes, which pins every one of them
COPY pyproject.toml ./
RUN uv sync --no-dev --no-install-project --no-cache
COPY README.md LICENSE ./
COPY sql ./sql
COPY src ./src
RUN uv sync --no-dev --no-editable --no-cache

FROM ${PYTHON_IMAGE}
RUN groupadd --system --gid 10001 wherry \
    && useradd --system --uid 10001 --gid wherry --home-dir /data --no-create-home --shell /usr/sbin/nologin wherry \
    && install --directory --owner=wherry --group=wherry --mode=0750 /data
COPY --from=build /app/.venv /app/.venv
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=3000 \
    MEMVID_EXPORT_BIND_ADDR=0.0.0.0:8080 \
    WHERRY_DATA_DIR=/data \
    EXPORT_STORAGE_PATH=/data/records \
    MEMVID_EXPORT_ROOT=/data/exports
WORKDIR /data
USER wherry
VOLUME /data
EXPOSE 3000 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['PORT']}/healthz\", timeout=4)"]
# everything: with DATABASE_URL on that server, without it on one of its own in /data
CMD ["wherry", "up"]
