"""The package's numbers and layouts, compared with the installed C headers and the running kernel.

The headers may be older than 6.18: what they do not have is not compared, and how much was compared is
asserted. The kernel's witness is BTF, the type information it carries about itself.
"""

import ctypes
import os
import platform
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from enum import Enum, IntFlag
from itertools import pairwise
from pathlib import Path

import pytest

from uring import abi
from uring.abi import layouts, sizes
from uring.abi.layouts import STRUCTS

CLASSES = [value for name in abi.__all__ if isinstance(value := getattr(abi, name), type)]
CONSTANTS = {name: int(value) for name in abi.__all__ if not isinstance(value := getattr(abi, name), type)}

# Newer kernels take new fields out of reserved ones, so only the others can be compared with old headers.
RESERVED = re.compile(r"^_|pad|resv|rsvd|spare")

HEADERS = {
    "kernel": """
        linux/io_uring.h linux/fcntl.h linux/stat.h linux/futex.h linux/openat2.h linux/ioprio.h
        linux/falloc.h linux/uio.h""",
    "libc": """
        errno.h fcntl.h poll.h time.h sys/epoll.h sys/mman.h sys/socket.h sys/stat.h sys/uio.h sys/wait.h
        sys/xattr.h netinet/in.h sys/un.h""",
}
# Where an architecture has its own number or padding.
X86_ONLY = set() if platform.machine() == "x86_64" else {"O_LARGEFILE", "epoll_event"}


# The package itself.


def test_every_member_is_a_name_of_the_package() -> None:
    assert len(CLASSES) > 50
    for cls in CLASSES:
        assert issubclass(cls, Enum)
        for name, member in cls.__members__.items():
            assert getattr(abi, name) is member
            assert name in abi.__all__


def test_no_name_is_exported_twice() -> None:
    assert len(abi.__all__) == len(set(abi.__all__))


def test_flags_keep_unknown_bits_of_newer_kernels() -> None:
    flag_classes = [cls for cls in CLASSES if issubclass(cls, IntFlag)]
    assert abi.Setup in flag_classes
    for cls in flag_classes:
        assert int(cls(1 << 31 | 1)) == 1 << 31 | 1


def test_sizes_of_our_own() -> None:
    buffers = [value for name, value in CONSTANTS.items() if name.startswith("BUFFER_SIZE_")]
    buffers.sort()
    assert (buffers[0], buffers[-1]) == (32, 128 * abi.MIB)
    assert all(big == 4 * small for small, big in pairwise(buffers))
    for name, count in CONSTANTS.items():
        if name.startswith("DEFAULT_BUFFER_NUM_"):
            size = CONSTANTS[name.replace("DEFAULT_BUFFER_NUM", "BUFFER_SIZE")]
            assert count == (1 << 15) >> buffers.index(size), name
    entries = sorted(value for name, value in CONSTANTS.items() if name.startswith("ENTRIES_"))
    assert (entries[0], entries[-1]) == (8, 32768)
    assert all(big == 4 * small for small, big in pairwise(entries))
    for name in sizes.__all__:
        if found := re.fullmatch(r"MACHINE_MEMORY_(\d+)([MG])B", name):
            assert CONSTANTS[name] == int(found[1]) << {"M": 20, "G": 30}[found[2]]


def test_networks_and_protocols_are_numbers_of_sockets() -> None:
    assert isinstance(abi.IPPROTO_UDPLITE, abi.IpProto)
    for network, family in (
        (abi.NETWORK_UNIX, abi.AF_UNIX),
        (abi.NETWORK_IPV4, abi.AF_INET),
        (abi.NETWORK_IPV6, abi.AF_INET6),
    ):
        assert isinstance(network, abi.AddressFamily)
        assert network == family


def packers() -> Iterator[tuple[str, struct.Struct, str]]:
    for name in layouts.__all__:
        packer = getattr(layouts, name)
        if isinstance(packer, struct.Struct):
            lower = name.lower()
            (struct_name,) = {f"io_uring_{lower}", f"__{lower}", lower} & STRUCTS.keys()
            yield name, packer, struct_name


def test_packers_cover_their_structures() -> None:
    names = []
    for name, packer, struct_name in packers():
        assert packer.size == STRUCTS[struct_name].size, name
        names.append(name)
    assert len(names) > 30


# Packed like any other field: one is the kernel's by name only, the other is where a buffer ring's tail is.
NOT_RESERVED = {("io_uring_rsrc_update", "resv"), ("io_uring_buf", "resv")}
NESTED = {
    "ts": "__kernel_timespec",
    "timeout": "__kernel_timespec",
    "offsets": "io_uring_zcrx_offsets",
    "filter": "io_uring_bpf_filter",
    "stx_atime": "statx_timestamp",
    "stx_btime": "statx_timestamp",
    "stx_ctime": "statx_timestamp",
    "stx_mtime": "statx_timestamp",
}


def spans(struct_name: str, base: int = 0) -> Iterator[tuple[int, int]]:
    """Offset and size of the plain fields that have a meaning."""
    for field, (offset, size) in STRUCTS[struct_name].fields.items():
        if field in NESTED and size > 8:
            yield from spans(NESTED[field], base + offset)
        elif size and (not RESERVED.search(field) or (struct_name, field) in NOT_RESERVED):
            yield base + offset, size


@pytest.mark.parametrize(("name", "packer", "struct_name"), list(packers()))
def test_packers_put_values_on_fields(name: str, packer: struct.Struct, struct_name: str) -> None:
    """A field full of ones is seen as one value, full of ones, in its place; there are no other values."""
    hit = []
    # A control request's tails share their place; the packer has their first word.
    for offset, size in sorted(set(spans(struct_name))):
        if name == "ZCRX_CTRL" and offset >= 24:
            size = 4
        memory = bytearray(packer.size)
        memory[offset : offset + size] = b"\xff" * size
        values = packer.unpack(memory)
        (index,) = [index for index, value in enumerate(values) if value]
        assert values[index] in (-1, 256**size - 1), (name, offset)
        hit.append(index)
    # An entry of a restriction goes by three names, of one place.
    assert hit == list(range(len(packer.unpack(bytes(packer.size))))), name


def test_fields_lie_inside_their_structures() -> None:
    for name, layout in STRUCTS.items():
        for field, (offset, size) in layout.fields.items():
            end_of_128_byte_entry = (name, field) == ("io_uring_sqe", "cmd")
            assert offset + size <= layout.size or end_of_128_byte_entry, (name, field)


# The installed headers.


def compiler() -> str:
    found = shutil.which("cc") or shutil.which("gcc")
    if found is None:
        pytest.skip("no C compiler")
    if not Path("/usr/include/linux/io_uring.h").exists():
        pytest.skip("no linux/io_uring.h")
    return found


def preamble(family: str) -> str:
    there = [name for name in HEADERS[family].split() if (found := include_path(name)) and found.exists()]
    return "#define _GNU_SOURCE 1\n" + "".join(f"#include <{name}>\n" for name in there)


def include_path(name: str) -> Path:
    plain = Path("/usr/include", name)
    return plain if plain.exists() else next(Path("/usr/include").glob(f"*-linux-gnu/{name}"), plain)


def c_struct_fields(text: str, name: str) -> set[str] | None:
    """What the body of `struct name { … }` declares; None if the structure is not there."""
    found = re.search(rf"\bstruct {name}\s*\{{", text)
    if found is None:
        return None
    depth, end = 1, found.end()
    while depth:
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
    return set(re.findall(r"(\w+)\s*(?:\[[^\]]*\]\s*)?;", text[found.end() : end]))


def ask_headers(cc: str, family: str, tmp_path: Path) -> dict[str, int]:
    """Values, sizes and offsets of the names that the headers have too, from the C compiler."""
    head = preamble(family)

    def preprocess(*options: str) -> str:
        run = [cc, "-E", "-P", *options, "-x", "c", "-"]
        done = subprocess.run(run, input=head, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout

    macros = set(re.findall(r"^#define (\w+) ", preprocess("-dM"), re.M))
    text = preprocess()
    enumerators = set(re.findall(r"\b([A-Z]\w+)\s*(?:=[^,{}]*)?[,}]", text))
    lines = [f'P("{name}", {name})' for name in CONSTANTS if name in macros or name in enumerators]
    for name, layout in STRUCTS.items():
        fields = c_struct_fields(text, name)
        if fields is None:
            continue
        lines.append(f'P("{name}", sizeof(struct {name}))')
        for field, (_, size) in layout.fields.items():
            if field in fields and not RESERVED.search(field):
                lines.append(f'P("{name}.{field}", __builtin_offsetof(struct {name}, {field}))')
                if size:
                    lines.append(f'P("{name}.{field}:", sizeof(((struct {name} *)0)->{field}))')
    source = tmp_path / f"{family}.c"
    program = tmp_path / family
    source.write_text(
        f"{head}#include <stdio.h>\n"
        '#define P(name, value) printf("%s %llu\\n", name, (unsigned long long)(value));\n'
        "int main(void) {\n" + "\n".join(lines) + "\nreturn 0; }\n"
    )
    subprocess.run([cc, "-w", "-o", program, source], check=True, timeout=60)
    said = subprocess.run([program], capture_output=True, text=True, check=True, timeout=60).stdout
    return {name: int(value) for name, value in (line.split() for line in said.splitlines())}


def ours(question: str) -> int:
    if question in CONSTANTS:
        return CONSTANTS[question] & 0xFFFF_FFFF_FFFF_FFFF
    name, _, field = question.partition(".")
    if not field:
        return STRUCTS[name].size
    offset, size = STRUCTS[name].fields[field.rstrip(":")]
    return size if field.endswith(":") else offset


@pytest.mark.parametrize(
    ("family", "constants", "others", "known"),
    [
        ("kernel", 200, 100, ["IORING_OP_SENDMSG_ZC", "IORING_SETUP_CQSIZE", "io_uring_sqe.user_data"]),
        ("libc", 120, 15, ["ECANCELED", "AF_INET6", "EPOLLIN", "msghdr.msg_flags"]),
    ],
)
def test_headers_agree(family: str, constants: int, others: int, known: list[str], tmp_path: Path) -> None:
    answers = ask_headers(compiler(), family, tmp_path)
    compared = {name: value for name, value in answers.items() if name.partition(".")[0] not in X86_ONLY}
    # The C library says 0 for O_LARGEFILE where it is implied; the kernel's header has the number.
    if family == "libc":
        compared.pop("O_LARGEFILE", None)
    assert {name: ours(name) for name in compared} == compared
    assert sum(name in CONSTANTS for name in compared) >= constants
    assert sum(name not in CONSTANTS for name in compared) >= others
    assert compared.keys() >= set(known)


def test_sizes_of_addresses(tmp_path: Path) -> None:
    cc = compiler()
    source = tmp_path / "addresses.c"
    source.write_text(
        "#include <stdio.h>\n#include <netinet/in.h>\n#include <sys/un.h>\n"
        'int main(void) { printf("%zu %zu %zu", sizeof(struct sockaddr_in), sizeof(struct sockaddr_in6),'
        " sizeof(struct sockaddr_un)); return 0; }\n"
    )
    subprocess.run([cc, "-o", tmp_path / "addresses", source], check=True, timeout=60)
    done = subprocess.run([tmp_path / "addresses"], capture_output=True, check=True, timeout=60)
    said = [int(size) for size in done.stdout.split()]
    assert said == [
        abi.SIZEOF_SOCKADDR_INET4,
        abi.SIZEOF_SOCKADDR_INET6,
        abi.SIZEOF_SOCKADDR_UNIX,
    ]
    assert max(said) <= abi.SIZEOF_SOCKADDR_ANY
    assert STRUCTS["open_how"].size == abi.SIZEOF_OPEN_HOW


# The running kernel.


@pytest.mark.ring
def test_kernel_knows_exactly_these_flags() -> None:
    """Linux 6.18 tells its bits: those of `abi` are the same, but for those of later kernels."""
    answer = ctypes.create_string_buffer(layouts.QUERY_OPCODE.size)
    request = ctypes.create_string_buffer(
        layouts.QUERY_HDR.pack(0, ctypes.addressof(answer), abi.IO_URING_QUERY_OPCODES, len(answer), 0)
    )
    io_uring_register = 427
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(io_uring_register, -1, int(abi.IORING_REGISTER_QUERY), ctypes.byref(request), 0) != 0:
        pytest.skip("the kernel answers no queries: " + os.strerror(ctypes.get_errno()))
    opcodes, registers, features, setup, enter, sqe, _ = layouts.QUERY_OPCODE.unpack(answer.raw)
    if opcodes != abi.IORING_OP_NOP128:
        pytest.skip(f"this is not Linux 6.18: it knows {opcodes} opcodes")
    assert registers == abi.IORING_REGISTER_ZCRX_CTRL
    assert features == mask(abi.Feature)
    assert setup == mask(abi.Setup) & ~(abi.IORING_SETUP_SQE_MIXED | abi.IORING_SETUP_SQ_REWIND)
    assert enter == mask(abi.Enter)
    assert sqe == mask(abi.Sqe)


def mask(flags: type[IntFlag]) -> int:
    return sum(flag.value for flag in flags)


BTF_FILE = Path("/sys/kernel/btf/vmlinux")
PTR, ARRAY, STRUCT, UNION, ENUM, ENUM64 = 2, 3, 4, 5, 6, 19
ALIASES = {8, 9, 10, 11, 18}  # typedef, volatile, const, restrict, type tag
# Bytes behind the header of other kinds: of 13 (function) and 15 (section) per entry.
EXTRA = {1: 4, 14: 4, 17: 4, 13: 8, 15: 12}


class Btf:
    """The kernel's description of its own types, as far as structures and enumerations need it."""

    def __init__(self, data: bytes) -> None:
        magic, _, _, header, at, length, strings, _ = struct.unpack_from("<HBBIIIII", data)
        assert magic == 0xEB9F
        self.strings = data[header + strings :]
        self.types: list[tuple[int, int, bool, int, list[tuple[int, ...]]]] = [(0, 0, False, 0, [])]
        at, end = header + at, header + at + length
        while at < end:
            name, info, size = struct.unpack_from("<III", data, at)
            kind, count, flag = info >> 24 & 31, info & 0xFFFF, bool(info >> 31)
            at += 12
            rows: list[tuple[int, ...]] = []
            if kind in (STRUCT, UNION, ENUM64):
                rows, step = list(struct.iter_unpack("<III", data[at : at + 12 * count])), 12 * count
            elif kind == ENUM:
                rows, step = list(struct.iter_unpack("<II", data[at : at + 8 * count])), 8 * count
            elif kind == ARRAY:
                rows, step = [struct.unpack_from("<III", data, at)], 12
            else:
                step = EXTRA.get(kind, 0) * (count if kind in (13, 15) else 1)
            at += step
            self.types.append((kind, name, flag, size, rows))
        self.structs = {self.text(t[1]): i for i, t in enumerate(self.types) if t[0] == STRUCT}

    def text(self, offset: int) -> str:
        return self.strings[offset : self.strings.index(0, offset)].decode()

    def enumerators(self) -> Iterator[tuple[str, str, int]]:
        for kind, name, _, _, rows in self.types:
            if kind == ENUM:
                for label, value in rows:
                    yield self.text(name), self.text(label), value

    def size(self, index: int) -> int:
        kind, _, _, size, rows = self.types[index]
        if kind in ALIASES:
            return self.size(size)
        if kind == ARRAY:
            element, _, count = rows[0]
            return self.size(element) * count
        return 8 if kind == PTR else size

    def fields(self, index: int, base: int = 0) -> Iterator[tuple[str, tuple[int, int]]]:
        """Name, offset and size of each field; those of unnamed members count as the structure's own."""
        kind, _, bitfields, size, rows = self.types[index]
        if kind in ALIASES:
            yield from self.fields(size, base)
            return
        for name, member, bit in rows:
            offset = base + ((bit & 0xFFFFFF) if bitfields else bit) // 8
            if name:
                yield self.text(name), (offset, self.size(member))
            else:
                yield from self.fields(member, offset)


@pytest.fixture(scope="module")
def btf() -> Btf:
    try:
        data = BTF_FILE.read_bytes()
    except OSError:
        pytest.skip("the kernel has no readable BTF")
    return Btf(data)


# What only later kernels have, and what the kernel calls by another name.
SINCE_6_19 = {
    "io_uring_query_zcrx",
    "io_uring_query_scq",
    "zcrx_ctrl",
    "zcrx_ctrl_export",
    "zcrx_ctrl_flush_rq",
    "io_uring_bpf",
    "io_uring_bpf_filter",
    "io_uring_query_zcrx_event",
    "zcrx_ctrl_arm_event",
    "zcrx_event_desc",
    "zcrx_stats",
}
# Fields that were reserved space in 6.18.
SPLIT_LATER = {("io_uring_zcrx_ifq_reg", "rx_buf_len"), ("io_uring_zcrx_ifq_reg", "event_desc")}
KERNEL_NAMES = {"msghdr": "user_msghdr"}
UAPI_ENUMS = {
    "io_uring_op",
    "io_uring_register_op",
    "io_uring_register_pbuf_ring_flags",
    "io_uring_register_restriction_op",
    "io_uring_msg_ring_flags",
    "io_uring_napi_op",
    "io_uring_napi_tracking_strategy",
    "io_uring_socket_op",
    "io_uring_zcrx_area_flags",
    "zcrx_ctrl_op",
    "zcrx_reg_flags",
}
PREFIXES = ("IORING_", "IO_URING_", "IOU_PBUF", "SOCKET_URING_", "ZCRX_", "IO_WQ_BOUND", "IO_WQ_UNBOUND")


def test_kernel_agrees_on_structures(btf: Btf) -> None:
    compared = 0
    for name, layout in STRUCTS.items():
        index = btf.structs.get(KERNEL_NAMES.get(name, name))
        if index is None:
            assert name in SINCE_6_19 | {"io_sqring_offsets", "io_cqring_offsets"}, name
            continue
        if name in X86_ONLY:
            continue
        there = dict(btf.fields(index))
        assert btf.size(index) == layout.size, name
        # A newer kernel may have split reserved space; every field that has a meaning must be where we say.
        for field, place in layout.fields.items():
            if not RESERVED.search(field) and (field in there or (name, field) not in SPLIT_LATER):
                assert there[field] == place, (name, field)
                compared += 1
    assert compared > 200


def test_kernel_agrees_on_enumerations(btf: Btf) -> None:
    kernel = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])
    compared = 0
    seen = set()
    for enum, name, value in btf.enumerators():
        if enum in UAPI_ENUMS and not re.search(r"_LAST$|^__", name):
            seen.add(enum)
            assert name in CONSTANTS or kernel > (6, 19), name
        if name in CONSTANTS and name.startswith(PREFIXES):
            assert value == CONSTANTS[name] & 0xFFFF_FFFF, name
            compared += 1
    assert {"io_uring_op", "io_uring_register_op", "io_uring_socket_op"} <= seen
    assert compared >= 100


def test_kernel_agrees_on_entry_flags(btf: Btf) -> None:
    bits = {name: value for enum, name, value in btf.enumerators() if enum == "io_uring_sqe_flags_bit"}
    assert {name.removesuffix("_BIT"): 1 << bit for name, bit in bits.items()} == {
        flag.name: flag.value for flag in abi.Sqe
    }
