"""A real S3-compatible server for tests: a process that keeps each bucket in a folder.

In: a folder. Out: its address, as the settings of a process that is to use it. `python -m tests.object_store FOLDER FD`
serves it on an inherited socket: localbucket, and DeleteObjects, which that lacks and every deletion of obstore's is.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from xml.etree import ElementTree

import httpx
from localbucket import S3Handler

HOST = "127.0.0.1"
START_SECONDS = 30
REPOSITORY = Path(__file__).resolve().parents[1]
NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@dataclass(frozen=True)
class ObjectStore:
    """A server that is up."""

    url: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What the AWS variables of a process must say that it finds this server."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "eu-west-1",
        }

    def bucket(self, name: str) -> Path:
        """Make a bucket; its folder, in which every complete object is a file."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def unfinished_uploads(self) -> list[Path]:
        """Parts of uploads that were neither completed nor aborted."""
        return [path for path in (self.folder / ".localbucket-uploads").rglob("*") if path.is_file()]


@contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """Start the server; stop it at the end."""
    with socket.create_server((HOST, 0)) as listener:
        url = f"http://{HOST}:{listener.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.object_store", str(folder), str(listener.fileno())],
            cwd=REPOSITORY,
            stderr=subprocess.DEVNULL,
            pass_fds=(listener.fileno(),),
        )
    try:
        # the request waits in the listener's backlog until the process serves
        httpx.get(url, timeout=START_SECONDS, trust_env=False).raise_for_status()
        yield ObjectStore(url, folder)
    finally:
        process.terminate()
        process.wait(10)


class Handler(S3Handler):
    """The server's answers."""

    def _post_request(self, bucket: str, key: str) -> None:
        if "delete" not in self.query or key:
            super()._post_request(bucket, key)
            return
        answer = ElementTree.Element("DeleteResult")
        for element in ElementTree.fromstring(self._read_body()).iter(f"{NAMESPACE}Key"):
            self._object_path(bucket, element.text).unlink(missing_ok=True)
            ElementTree.SubElement(ElementTree.SubElement(answer, "Deleted"), "Key").text = element.text
        self._send_xml(answer)


def serve(folder: str, listener: str) -> None:
    """Serve until the process ends."""
    S3Handler.data_root = Path(folder)
    server = ThreadingHTTPServer((HOST, 0), Handler)
    server.socket.close()
    server.socket = socket.socket(fileno=int(listener))
    server.serve_forever()


if __name__ == "__main__":
    serve(*sys.argv[1:])
