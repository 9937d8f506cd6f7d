"""The opcode table is complete, and agrees with the constants and with the entries that operations make."""

import dataclasses

import pytest

from uring import abi
from uring.abi.layouts import STRUCTS
from uring.opcodes import OPCODES, Cancel, Opcode, ResultKind, by_name, by_number

every_opcode = pytest.mark.parametrize("row", OPCODES, ids=lambda row: row.name)


def test_one_row_for_each_number() -> None:
    assert [row.number for row in OPCODES] == list(range(65)) == list(abi.Op)


@every_opcode
def test_row_is_well_formed(row: Opcode) -> None:
    assert row.number.name == f"IORING_OP_{row.name}"
    fields = STRUCTS["io_uring_sqe"].fields
    assert all(fields[pointer][1] == 8 for pointer in row.pointers)
    assert len(row.pointers) == len({fields[pointer] for pointer in row.pointers})
    assert isinstance(row.result, ResultKind)
    assert isinstance(row.cancel, Cancel)
    major, minor = map(int, row.since.split("."))
    assert (5, 1) <= (major, minor) <= (6, 19)


def test_kernels_only_ever_append() -> None:
    versions = [tuple(map(int, row.since.split("."))) for row in OPCODES]
    assert versions == sorted(versions)
    assert [row.name for row in OPCODES if row.since == "6.19"] == ["NOP128", "URING_CMD128"]


def test_rows_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        OPCODES[0].since = "4.0"  # type: ignore[misc]


@every_opcode
def test_look_up(row: Opcode) -> None:
    assert by_number(row.number) is row
    assert by_number(int(row.number)) is row
    assert by_name(row.name) is row
    assert by_name(row.name.lower()) is row
    assert by_name(row.number.name) is row


@pytest.mark.parametrize("number", [-1, 65, 255])
def test_no_such_number(number: int) -> None:
    with pytest.raises(LookupError, match=f"has the number {number}"):
        by_number(number)


@pytest.mark.parametrize("name", ["", "LAST", "IORING_OP_", "RECVX"])
def test_no_such_name(name: str) -> None:
    with pytest.raises(LookupError, match="is called"):
        by_name(name)


def names(wanted: str) -> set[str]:
    return {row.name for row in OPCODES if getattr(row, wanted)}


def test_which_operations_can_complete_more_than_once() -> None:
    socket_operations = {"ACCEPT", "RECV", "RECVMSG", "RECV_ZC"}
    commands = {"URING_CMD", "URING_CMD128"}
    assert names("multishot") == socket_operations | commands | {"POLL_ADD", "TIMEOUT", "READ_MULTISHOT"}


def test_which_operations_hand_out_descriptors() -> None:
    """These are the ones whose late success after a cancel must be closed."""
    kinds = {ResultKind.FD, ResultKind.FD_PAIR}
    assert {row.name for row in OPCODES if row.result in kinds} == {
        "ACCEPT",
        "FIXED_FD_INSTALL",
        "OPENAT",
        "OPENAT2",
        "PIPE",
        "SOCKET",
    }


def test_provided_buffers_are_for_receiving_sending_and_commands() -> None:
    receives = {"READV", "READ", "RECV", "RECVMSG", "READ_MULTISHOT"}
    assert names("buffer_select") == receives | {"SEND", "URING_CMD", "URING_CMD128"}


def test_operations_on_a_path_take_no_registered_file() -> None:
    on_paths = "OPENAT OPENAT2 STATX RENAMEAT UNLINKAT MKDIRAT SYMLINKAT LINKAT SETXATTR GETXATTR"
    assert names("fixed_file").isdisjoint(on_paths.split())
