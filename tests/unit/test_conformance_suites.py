"""How the conformance run finds the tests of others, and tells one on the backend from its twin on Trio."""

import io
import tarfile

import pytest

from tests.conformance.anyio_names import NAME, as_on_trio
from tests.conformance.suites import SUITES, wanted


@pytest.mark.parametrize(
    ("nodeid", "twin"),
    [
        ("t.py::test_x[uring]", "t.py::test_x[trio]"),
        ("t.py::test_x[uring-uring-ipv4]", "t.py::test_x[trio-trio-ipv4]"),
        ("t.py::test_close_during_send[trio-ipv6]", "t.py::test_close_during_send[trio-ipv6]"),
        ("t.py::test_reset_during_send[uring-during]", "t.py::test_reset_during_send[trio-during]"),
        ("t.py::test_uring", "t.py::test_uring"),
    ],
)
def test_a_test_on_the_backend_has_a_twin_on_trio(nodeid: str, twin: str) -> None:
    assert as_on_trio(nodeid) == twin


def test_the_name_of_the_backend_is_both_names() -> None:
    assert NAME == "uring"
    assert NAME == "trio"
    assert NAME != "asyncio"
    assert {"uring": 1}[NAME] == 1
    assert f"{NAME}" == str(NAME) == "uring"


def test_only_tests_and_settings_come_out_of_an_archive() -> None:
    names = ["a-1/pyproject.toml", "a-1/tests/test_a.py", "a-1/a/__init__.py", "a-1/setup.py", "a-1/tests.py"]
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    memory.seek(0)
    with tarfile.open(fileobj=memory) as tar:
        assert [member.name for member in wanted(tar)] == names[:2]


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_demands_something(name: str) -> None:
    suite = SUITES[name]
    assert suite.name == name
    assert suite.least_passed > 0
    assert suite.most_expected <= 5
    assert suite.must_submit.startswith(suite.paths)
