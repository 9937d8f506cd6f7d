"""Runs Python with system calls refused by a seccomp filter: ``python refuse.py RULES ARGUMENTS…``.

RULES is JSON, a list of [number of the system call, its second argument or -1 for any, errno]. The filter
stays with the process and its children; the numbers of io_uring's calls are the same on every architecture.

``python refuse.py --profile PROFILE ARGUMENTS…`` puts a profile of a container in force, as JSON.
"""

import ctypes
import json
import os
import re
import struct
import subprocess
import sys

LOAD, AND, IF_EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
NUMBER_AT, ARGUMENTS_AT, SECOND_ARGUMENT_AT = 0, 16, 24
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


def compiled_profile(profile: dict) -> bytes:
    """A filter for a profile, of the forms that ours uses. Arguments are compared in their lower half."""
    numbers, code = numbers_of_calls(), b""
    for rule in profile["syscalls"]:
        result = action(rule["action"], rule.get("errnoRet", 1))
        for number in (numbers[name] for name in rule["names"] if name in numbers):
            conditions = [condition(each) for each in rule.get("args", [])]
            body = b"".join(conditions) + step(RETURN, result)
            # A condition that does not hold leads to its own end, after which the number is loaded again.
            code += step(LOAD, NUMBER_AT) + step(IF_EQUAL, number, 0, len(body) // 8) + body
    return code + step(RETURN, action(profile["defaultAction"], profile["defaultErrnoRet"]))


def condition(argument: dict) -> bytes:
    code = step(LOAD, ARGUMENTS_AT + 8 * argument["index"])
    value, wanted = argument["value"], argument["value"]
    if argument["op"] == "SCMP_CMP_MASKED_EQ":
        code, wanted = code + step(AND, value), argument["valueTwo"]
    holds = argument["op"] != "SCMP_CMP_NE"
    return code + step(IF_EQUAL, wanted, 0 if holds else 1, 1 if holds else 0)


def action(name: str, number: int) -> int:
    return {"SCMP_ACT_ALLOW": ALLOW, "SCMP_ACT_ERRNO": REFUSE | number}[name]


def numbers_of_calls() -> dict[str, int]:
    """What the C headers of this machine say, and a call that is newer than some, the same everywhere."""
    text = subprocess.run(
        [os.environ.get("CC", "cc"), "-E", "-dM", "-"],
        input="#include <sys/syscall.h>",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    known = {name: int(number) for name, number in re.findall(r"define __NR_(\w+) (\d+)", text)}
    return {"statmount": 457, **known}


def install(code: bytes) -> None:
    memory = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("HP", len(code) // 8, ctypes.addressof(memory)))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in (NO_NEW_PRIVS, 1, 0, 0, 0), (SECCOMP, FILTER, program, 0, 0):
        if libc.prctl(*call):
            raise OSError(ctypes.get_errno(), f"prctl {call[0]}")


if __name__ == "__main__":
    if sys.argv[1] == "--profile":
        del sys.argv[1]
        install(compiled_profile(json.loads(sys.argv[1])))
    else:
        install(compiled(json.loads(sys.argv[1])))
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
