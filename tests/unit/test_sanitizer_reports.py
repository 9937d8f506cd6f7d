"""Of the reports of a sanitized run the leaks that C of this project allocated count, and every error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sanitize.interpreter import take_reports

if TYPE_CHECKING:
    from pathlib import Path

OF_CPYTHON = """
Direct leak of 744 byte(s) in 1 object(s) allocated from:
    #0 0x7f72 in __interceptor_malloc ../../../../src/libsanitizer/asan/asan_malloc_linux.cpp:69
    #1 0x7f73 in _PyObject_Malloc Objects/obmalloc.c:2003
"""
OF_THE_SHIM = """
Indirect leak of 128 byte(s) in 1 object(s) allocated from:
    #0 0x7f72 in __interceptor_calloc ../../../../src/libsanitizer/asan/asan_malloc_linux.cpp:77
    #1 0x7f73 in ur_track src/uring/_shim/count.h:70
"""
HEAD = "==1==ERROR: LeakSanitizer: detected memory leaks\n"
TAIL = "\nSUMMARY: AddressSanitizer: 872 byte(s) leaked in 2 allocation(s).\n"


def told(folder: Path, text: str) -> list[str]:
    (folder / "report.1").write_text(text)
    found = take_reports(folder)
    assert not list(folder.iterdir())
    return found


def test_a_leak_of_the_shim_counts(tmp_path: Path) -> None:
    (leak,) = told(tmp_path, HEAD + OF_CPYTHON + OF_THE_SHIM + OF_CPYTHON + TAIL)
    assert leak.strip() == OF_THE_SHIM.strip()


def test_a_leak_of_the_interpreter_does_not(tmp_path: Path) -> None:
    assert told(tmp_path, HEAD + OF_CPYTHON + TAIL) == []


def test_every_error_counts(tmp_path: Path) -> None:
    text = "==1==ERROR: AddressSanitizer: heap-use-after-free on address 0x60\n#0 in PyLong_FromLong\n"
    assert told(tmp_path, text) == [text]
    text = "src/uring/_shim/ring.c:7:3: runtime error: signed integer overflow\n"
    assert told(tmp_path, text) == [text]


def test_a_leak_check_that_was_cut_off_does_not(tmp_path: Path) -> None:
    text = "Tracer caught signal 11: addr=0x32\n==1==LeakSanitizer has encountered a fatal error.\n"
    assert told(tmp_path, text) == []


def test_an_allocation_of_a_size_that_a_test_has_chosen_does_not(tmp_path: Path) -> None:
    text = "==7==WARNING: AddressSanitizer failed to allocate 0x4000000000000021 bytes\n"
    assert told(tmp_path, text * 2) == []
    (error,) = told(tmp_path, text + "==7==ERROR: AddressSanitizer: heap-use-after-free on address 0x60\n")
    assert "failed to allocate" not in error


def test_a_report_names_the_test_before_it(tmp_path: Path) -> None:
    (tmp_path / "named").write_text("report.1 tests/a.py::test_b\n")
    (leak,) = told(tmp_path, HEAD + OF_THE_SHIM + TAIL)
    assert leak.startswith("after tests/a.py::test_b:\nIndirect leak")
