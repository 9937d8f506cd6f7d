"""Runs Python with system calls refused by a seccomp filter: ``python refuse.py RULES ARGUMENTS…``.

RULES is JSON, a list of [number of the system call, its second argument or -1 for any, errno]. The filter
stays with the process and its children; the numbers of io_uring's calls are the same on every architecture.
"""

import ctypes
import json
import os
import struct
import sys

LOAD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
NUMBER_AT, SECOND_ARGUMENT_AT = 0, 24
NO_NEW_PRIVS, SECCOMP, FILTER = 38, 22, 2


def step(what: int, value: int, skip_if: int = 0, skip_unless: int = 0) -> bytes:
    return struct.pack("=HBBI", what, skip_if, skip_unless, value)


def compiled(rules: list[tuple[int, int, int]]) -> bytes:
    code = b""
    for number, argument, refusal in rules:
        code += step(LOAD, NUMBER_AT)
        if argument < 0:
            code += step(IF_EQUAL, number, 0, 1)
        else:
            code += step(IF_EQUAL, number, 0, 3)
            code += step(LOAD, SECOND_ARGUMENT_AT)
            code += step(IF_EQUAL, argument, 0, 1)
        code += step(RETURN, REFUSE | refusal)
    return code + step(RETURN, ALLOW)


def install(code: bytes) -> None:
    memory = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("HP", len(code) // 8, ctypes.addressof(memory)))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in (NO_NEW_PRIVS, 1, 0, 0, 0), (SECCOMP, FILTER, program, 0, 0):
        if libc.prctl(*call):
            raise OSError(ctypes.get_errno(), f"prctl {call[0]}")


if __name__ == "__main__":
    install(compiled(json.loads(sys.argv[1])))
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
