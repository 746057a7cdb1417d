"""A real S3 server on this machine, which can be away for a while."""

from __future__ import annotations

import logging

from pyarrow import fs

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIDOFATEST",
    "AWS_SECRET_ACCESS_KEY": "a-secret-of-a-test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "1",
}
"""Credentials, and no looking elsewhere for others."""


class S3:
    """The server; what it holds outlives ``stop``. Its bucket is ``bucket``."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request is too many
        self._port = 0
        self.start()
        options = {"endpoint_override": self.address, "scheme": "http"}
        fs.S3FileSystem(allow_bucket_creation=True, **options).create_dir("bucket")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        from moto.server import ThreadedMotoServer  # takes seconds

        self._server = ThreadedMotoServer("127.0.0.1", self._port, verbose=False)
        self._server.start()
        self._port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        self._server.stop()

    def uri(self, path: str, user: str = "") -> str:
        """The URI of ``<bucket>/<path>``."""
        return f"s3://{user}{path}?scheme=http&endpoint_override={self.address}"
