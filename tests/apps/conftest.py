"""Servers and clients that people run, unmodified: the tests are ``async`` functions on a ring run.

When one returns nothing is in flight, nothing is open, and every operation has ended.
"""

from __future__ import annotations

import inspect
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme

import uring_trio
from uring_trio.testing import assert_nothing_in_flight, no_leaks

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 60.0


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(test).parameters}

    async def main() -> None:
        with trio.fail_after(PATIENCE):
            await test(**arguments)
            assert_nothing_in_flight()

    with no_leaks():
        uring_trio.run(main)
    return True


@dataclass
class Certificates:
    """Files for a server at 127.0.0.1, and contexts for both sides."""

    certificate: str
    key: str
    server: ssl.SSLContext
    authority: trustme.CA

    @property
    def client(self) -> ssl.SSLContext:
        """A context of one's own: httpcore offers HTTP/2 in the one it is given."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    where: Path = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = where / "certificate.pem", where / "key.pem"
    key.write_bytes(issued.private_key_pem.bytes())
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issued.configure_cert(server)
    return Certificates(str(certificate), str(key), server, authority)


@pytest.fixture(params=["plain", "tls"])
def maybe_tls(request: pytest.FixtureRequest) -> Any:
    """Certificates, or None for a plain connection."""
    return request.getfixturevalue("tls") if request.param == "tls" else None
