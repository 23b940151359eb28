"""The container files say nothing that is not so: judged without an engine, by what they name."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml

from tests.commands import wherry
from tests.factories import SMALL_GRAPH
from wherry.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
OURS = ("migrate", "api", "worker")
START_SECONDS = 90


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, arguments), continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", DOCKERFILE)
    lines = (line.strip() for line in joined.splitlines())
    return [
        (name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines if line and line[0] != "#")
    ]


def of(instruction: str) -> list[str]:
    return [rest for name, rest in instructions() if name == instruction]


def copied_from_here() -> list[str]:
    sources = [rest.split()[:-1] for rest in of("COPY") if "--from=" not in rest]
    return [source for part in sources for source in part if not source.startswith("--")]


def health_command() -> list[str]:
    (health,) = of("HEALTHCHECK")
    command: list[str] = json.loads(health.partition("CMD ")[2])
    return command


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server whose `/healthz` gives `status`; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def is_healthy(port: int) -> bool:
    program, *arguments = health_command()
    assert program == "python"
    environment = {"PORT": str(port)}
    result = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, timeout=30)
    return result.returncode == 0


def test_every_base_image_is_a_named_release_of_slim_debian_and_python() -> None:
    (argument,) = of("ARG")
    image = re.fullmatch(r"PYTHON_IMAGE=python:(3\.\d+)[.\d]*-slim-(bookworm|trixie)", argument)
    assert image
    assert [rest.split()[0] for rest in of("FROM")] == ["${PYTHON_IMAGE}"] * len(of("FROM"))
    assert tuple(map(int, image[1].split("."))) >= (3, 11)


def test_every_copied_source_exists_and_is_not_ignored() -> None:
    rules = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    for source in copied_from_here():
        assert (REPOSITORY / source).exists(), source
        verdicts = [not rule.startswith("!") for rule in rules if fnmatch(source.removeprefix("./"), rule.lstrip("!"))]
        assert verdicts[-1] is False, f".dockerignore leaves {source} out"


def test_what_the_build_needs_is_copied() -> None:
    copied = {source.removeprefix("./") for source in copied_from_here()}
    assert {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], "src", "sql"} <= copied


def test_dependencies_are_installed_before_the_source_is_copied() -> None:
    steps = [f"{name} {rest}" for name, rest in instructions()]
    dependencies = next(i for i, step in enumerate(steps) if "--no-install-project" in step)
    source = next(i for i, step in enumerate(steps) if step.startswith("COPY src"))
    assert dependencies < source


def test_the_installer_is_pinned() -> None:
    (install,) = [rest for rest in of("RUN") if rest.startswith("pip install")]
    assert re.search(r"\buv==\d+\.\d+\.\d+", install)


def test_the_image_runs_as_a_user_that_it_makes_and_who_is_not_root() -> None:
    assert instructions()[-1][0] == "CMD"
    user = of("USER")[-1]
    assert user not in ("root", "0")
    assert re.search(rf"useradd .*--uid [1-9]\d+ .*\b{user}\b", " ".join(of("RUN")))


def test_the_image_brings_no_secret() -> None:
    assert not re.search(r"(?i)(secret|password|api_key)\w*\s*=", DOCKERFILE)


def test_the_health_check_tells_a_healthy_server_from_every_other() -> None:
    with answering(200) as port:
        assert is_healthy(port)
    assert not is_healthy(port)  # nobody answers there any more
    with answering(503) as port:
        assert not is_healthy(port)


def image_environment() -> dict[str, str]:
    return dict(part.split("=", 1) for rest in of("ENV") for part in rest.split())


def test_a_server_inside_a_container_can_be_reached_from_outside() -> None:
    environment = image_environment()
    address, _, second = environment["MEMVID_EXPORT_BIND_ADDR"].rpartition(":")
    assert environment["HOST"] == address == "0.0.0.0"
    (exposed,) = of("EXPOSE")
    assert exposed.split() == [environment["PORT"], second] == ["3000", "8080"]
    published = [port.rpartition(":")[2] for port in COMPOSE["services"]["api"]["ports"]]
    assert published == exposed.split()


def test_everything_that_the_image_keeps_is_in_its_volume() -> None:
    (volume,) = of("VOLUME")
    environment = image_environment()
    for name in ("WHERRY_DATA_DIR", "EXPORT_STORAGE_PATH", "MEMVID_EXPORT_ROOT"):
        assert Path(environment[name]).is_relative_to(volume)


def test_containers_listen_where_compose_publishes_whatever_the_env_file_says() -> None:
    environment = image_environment()
    for name in OURS:
        service = COMPOSE["services"][name]
        assert service["env_file"] == [{"path": ".env", "required": False}]
        for variable in ("HOST", "PORT", "MEMVID_EXPORT_BIND_ADDR", "WHERRY_DATA_DIR"):
            assert service["environment"][variable] == environment[variable]


def test_every_variable_that_compose_reads_is_explained_at_its_top() -> None:
    text = (REPOSITORY / "docker-compose.yml").read_text()
    explained = set(re.findall(r"^#   ([A-Z_]+)  ", text, re.MULTILINE))
    assert explained == set(re.findall(r"\$\{([A-Z_]+)", text))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def image_running(folder: Path, **settings: str) -> Iterator[tuple[str, str]]:
    """The image's command in its environment, with `/data` in `folder`, on loopback; the addresses of its ports."""
    inside = {"PATH": os.environ["PATH"], **image_environment()}
    first, second = free_port(), free_port()
    moved = {name: value.replace("/data", str(folder)) for name, value in inside.items() if name != "PATH"}
    moved |= {"HOST": "127.0.0.1", "PORT": str(first), "MEMVID_EXPORT_BIND_ADDR": f"127.0.0.1:{second}"}
    program, *arguments = json.loads(of("CMD")[-1])
    log = folder / "container.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [Path(sys.executable).with_name(program), *arguments],
            cwd=folder,
            env={"PATH": inside["PATH"].removeprefix("/app/.venv/bin:"), **moved, **settings},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while b"wherry is up" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{first}", f"http://127.0.0.1:{second}"
        process.terminate()
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_the_image_serves_everything_on_both_ports_with_nothing_set(open_folder: Path) -> None:
    with image_running(open_folder) as addresses:
        for url in addresses:
            assert httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
        key = json.loads((open_folder / "secrets.json").read_text())["MEMVID_EXPORT_API_KEY"]
        _make_capsule(addresses[1], key)
        assert is_healthy(int(addresses[0].rpartition(":")[2]))
    assert (open_folder / "postgres" / "PG_VERSION").exists()
    assert list((open_folder / "exports").rglob("*.mv2")), "capsules are kept where the older service kept them"


def test_the_image_uses_the_key_and_the_database_that_it_is_given(open_folder: Path, empty_database_url: str) -> None:
    given = {"DATABASE_URL": empty_database_url, "MEMVID_EXPORT_API_KEY": "the operator's key"}
    with image_running(open_folder, **given) as addresses:
        _make_capsule(addresses[1], given["MEMVID_EXPORT_API_KEY"])
    assert not (open_folder / "postgres").exists()
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("select status from wherry.jobs").fetchall() == [("succeeded",)]


def _make_capsule(url: str, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60) as client:
        job_id = client.post("/v1/exports", json=SMALL_GRAPH).raise_for_status().json()["jobId"]
        client.get(f"/v1/exports/{job_id}/events/stream").raise_for_status()  # ends when the job has
        assert client.get(f"/v1/exports/{job_id}/download").raise_for_status().content[:4] == b"MV2\0"


@pytest.mark.parametrize("source", ["image", *OURS])
def test_every_command_exists_in_wherry(tmp_path: Path, source: str) -> None:
    command = json.loads(of("CMD")[-1]) if source == "image" else COMPOSE["services"][source]["command"]
    program, *arguments = command
    assert PROJECT["scripts"][program] == "wherry.cli:main"
    # `--help` after a command fails if the command or an option before it does not exist
    result = wherry(tmp_path, os.environ, *arguments, "--help")
    assert result.returncode == 0, result.stderr
    assert arguments[0] in result.stdout


def test_every_service_of_ours_runs_one_image_of_this_version() -> None:
    assert {COMPOSE["services"][name]["image"] for name in OURS} == {f"wherry:{PROJECT['version']}"}
    assert {COMPOSE["services"][name]["build"] for name in OURS} == {"."}


def test_nothing_starts_before_the_database_is_migrated() -> None:
    services = COMPOSE["services"]
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert "healthcheck" in services["postgres"]
    for name in ("api", "worker"):
        assert services[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert services["migrate"]["restart"] == "no"


def test_api_and_worker_share_storage_that_outlives_them() -> None:
    environment = image_environment()
    for name in ("api", "worker"):
        volume, _, target = COMPOSE["services"][name]["volumes"][0].partition(":")
        assert volume in COMPOSE["volumes"]
        assert target == environment["WHERRY_DATA_DIR"]


def test_every_service_without_http_switches_the_health_check_off() -> None:
    for name in ("migrate", "worker"):
        assert COMPOSE["services"][name]["healthcheck"] == {"disable": True}


def test_no_secret_has_a_default() -> None:
    for name, service in COMPOSE["services"].items():
        for variable, value in service["environment"].items():
            if re.search("SECRET|PASSWORD", variable) or variable == "DATABASE_URL":
                assert re.search(r"\$\{\w+:\?[^}]+\}", value), f"{name}: {variable}"


def test_the_database_image_names_its_release_and_keeps_its_data() -> None:
    postgres = COMPOSE["services"]["postgres"]
    release = re.fullmatch(r"postgres:(\d+)(\.\d+)?", postgres["image"])
    assert release
    # from 18 on the image keeps its data in a folder of the release below this one
    assert int(release[1]) >= 18
    volume, _, target = postgres["volumes"][0].partition(":")
    assert volume in COMPOSE["volumes"]
    assert target == "/var/lib/postgresql"


def test_every_setting_is_one_that_wherry_reads() -> None:
    known = {name.upper() for name in Settings.model_fields} | {"PATH", "PYTHONUNBUFFERED"}
    final_stage = DOCKERFILE.rpartition("\nFROM ")[2]
    in_image = set(re.findall(r"^\s*(?:ENV )?([A-Z_]+)=", final_stage, re.MULTILINE))
    assert {"HOST", "PORT"} <= in_image <= known
    for name in OURS:
        assert set(COMPOSE["services"][name]["environment"]) <= known


def test_compose_itself_accepts_the_file(tmp_path: Path) -> None:
    command = next(filter(None, (_compose_plugin(), _compose_program())), None)
    if command is None:
        pytest.skip("no docker compose on this machine")
    no_variables = tmp_path / "empty.env"  # not the developer's own .env
    no_variables.touch()
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "JWT_SECRET": "x" * 32, "POSTGRES_PASSWORD": "y"}
    arguments = [*command, "-f", str(REPOSITORY / "docker-compose.yml"), "--env-file", str(no_variables), "config"]
    accepted = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)
    assert accepted.returncode == 0, accepted.stderr
    del environment["JWT_SECRET"]
    refused = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)
    assert refused.returncode != 0
    assert "JWT_SECRET" in refused.stderr


def _compose_plugin() -> list[str] | None:
    if not (docker := shutil.which("docker")):
        return None
    plugin = subprocess.run([docker, "compose", "version"], capture_output=True, timeout=30)
    return [docker, "compose"] if plugin.returncode == 0 else None


def _compose_program() -> list[str] | None:
    program = shutil.which("docker-compose")
    return [program] if program else None
