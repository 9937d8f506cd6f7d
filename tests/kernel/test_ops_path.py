"""Opening, naming, linking, removing, statx, attributes and the file table, against the kernel."""

import errno
import os
import pickle
import socket
import stat

import pytest

from uring import abi, ops

ALLOC = abi.IORING_FILE_INDEX_ALLOC


@pytest.mark.opcodes("OPENAT", "CLOSE")
def test_a_file_is_created_and_closed(kernel, tmp_path):
    path = tmp_path / "new"
    fd = kernel.run(ops.openat(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file_mode=0o640))
    assert not os.get_inheritable(fd)
    os.write(fd, b"here")
    assert kernel.run(ops.close(fd)) == 0
    with pytest.raises(OSError):
        os.fstat(fd)
    assert path.read_bytes() == b"here"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert kernel.result(ops.close(fd)) == -errno.EBADF


@pytest.mark.opcodes("OPENAT")
def test_a_path_is_str_bytes_or_pathlike_and_may_start_from_a_directory(kernel, tmp_path):
    (tmp_path / "häuser").write_bytes(b"x")
    directory = os.open(tmp_path, os.O_RDONLY)
    for path in (str(tmp_path / "häuser"), os.fsencode(tmp_path / "häuser"), tmp_path / "häuser"):
        os.close(kernel.run(ops.openat(path)))
    os.close(kernel.run(ops.openat("häuser", dir_fd=directory)))
    os.close(directory)


@pytest.mark.opcodes("OPENAT")
def test_opening_fails_with_the_class_python_has_for_it(kernel, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.*openat") as missing:
        kernel.run(ops.openat(tmp_path / "none"))
    assert missing.value.filename == str(tmp_path / "none")
    with pytest.raises(FileExistsError):
        kernel.run(ops.openat(tmp_path, os.O_CREAT | os.O_EXCL))
    with pytest.raises(IsADirectoryError):
        kernel.run(ops.openat(tmp_path, os.O_WRONLY))
    with pytest.raises(OSError) as caught:
        kernel.run(ops.openat("x" * 5000))
    assert caught.value.errno == errno.ENAMETOOLONG


@pytest.mark.opcodes("OPENAT", "CLOSE", "READ")
def test_a_file_is_opened_into_a_slot_and_closed_there(kernel, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"direct")
    kernel.register_files(-1, -1, -1)
    assert kernel.run(ops.openat(path, file_index=2)) == 2
    assert kernel.run(ops.openat(path, file_index=ALLOC)) == 0
    room = bytearray(6)
    for slot in (0, 2):
        assert kernel.run(ops.read(slot, room, offset=0, fixed_file=True)) == 6
        assert room == b"direct"
        assert kernel.run(ops.close_direct(slot)) == 0
    assert kernel.result(ops.close_direct(0)) == -errno.EBADF
    assert kernel.result(ops.openat(path, file_index=3)) == -errno.EINVAL


@pytest.mark.opcodes("OPENAT")
def test_slots_need_a_table(kernel, tmp_path):
    assert kernel.result(ops.openat(tmp_path, file_index=0)) == -errno.ENXIO
    assert kernel.result(ops.openat(tmp_path, file_index=ALLOC)) == -errno.ENFILE


@pytest.mark.opcodes("OPENAT2")
def test_openat2_resolves_within_limits(kernel, tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside").write_bytes(b"secret")
    root = os.open(tmp_path / "inside", os.O_RDONLY)
    fd = kernel.run(ops.openat2("file", os.O_WRONLY | os.O_CREAT, resolve=abi.RESOLVE_BENEATH, dir_fd=root))
    assert not os.get_inheritable(fd)
    os.close(fd)
    os.close(kernel.run(ops.openat2("file", dir_fd=root)))
    assert (tmp_path / "inside" / "file").exists()
    with pytest.raises(OSError) as caught:
        kernel.run(ops.openat2("../outside", resolve=abi.RESOLVE_BENEATH, dir_fd=root))
    assert caught.value.errno == errno.EXDEV
    assert kernel.result(ops.openat2("file", file_mode=0o600, dir_fd=root)) == -errno.EINVAL
    assert kernel.result(ops.openat2("file", resolve=1 << 40, dir_fd=root)) == -errno.EINVAL
    kernel.register_files(-1)
    assert kernel.run(ops.openat2("file", dir_fd=root, file_index=0)) == 0
    os.close(root)


@pytest.mark.opcodes("STATX")
def test_statx_says_what_stat_says(kernel, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(5000))
    os.utime(path, ns=(-1_500_000_001, 1_600_000_000_123_456_789))
    found = kernel.run(ops.statx(path))
    expected = os.stat(path)
    same = found.as_stat_result()
    assert same == expected
    for name in dir(expected):
        if name.startswith("st_"):
            assert getattr(same, name) == getattr(expected, name), name
            assert getattr(found, name, None) in (getattr(expected, name), None), name
    assert found.st_mtime == expected.st_mtime
    assert found.mask & abi.STATX_BTIME
    assert found.st_birthtime > 0


@pytest.mark.opcodes("STATX")
def test_statx_looks_at_links_devices_and_open_files(kernel, tmp_path):
    os.symlink("nowhere", tmp_path / "link")
    found = kernel.run(ops.statx(tmp_path / "link", flags=abi.AT_SYMLINK_NOFOLLOW))
    assert stat.S_ISLNK(found.st_mode)
    assert found.st_size == len("nowhere")
    with pytest.raises(FileNotFoundError):
        kernel.run(ops.statx(tmp_path / "link"))
    null = kernel.run(ops.statx("/dev/null"))
    assert null.st_rdev == os.stat("/dev/null").st_rdev
    directory = os.open(tmp_path, os.O_RDONLY)
    opened = kernel.run(ops.statx("", flags=abi.AT_EMPTY_PATH, dir_fd=directory))
    assert opened.st_ino == os.fstat(directory).st_ino
    direct_io = kernel.run(ops.statx("", flags=abi.AT_EMPTY_PATH, mask=abi.STATX_DIOALIGN, dir_fd=directory))
    assert direct_io.st_ino == opened.st_ino
    os.close(directory)


@pytest.mark.opcodes("MKDIRAT", "UNLINKAT", "RENAMEAT", "SYMLINKAT", "LINKAT")
def test_names_are_made_changed_and_removed(kernel, tmp_path):
    directory = os.open(tmp_path, os.O_RDONLY)
    assert kernel.run(ops.mkdirat("sub", file_mode=0o700, dir_fd=directory)) == 0
    assert stat.S_IMODE((tmp_path / "sub").stat().st_mode) == 0o700
    (tmp_path / "a").write_bytes(b"a")
    assert kernel.run(ops.linkat("a", "sub/b", src_dir_fd=directory, dst_dir_fd=directory)) == 0
    assert (tmp_path / "a").stat().st_nlink == 2
    assert kernel.run(ops.symlinkat("../a", "sub/c", dir_fd=directory)) == 0
    assert os.readlink(tmp_path / "sub" / "c") == "../a"
    assert kernel.run(ops.linkat(tmp_path / "sub" / "c", tmp_path / "d", abi.AT_SYMLINK_FOLLOW)) == 0
    assert (tmp_path / "d").read_bytes() == b"a"
    assert kernel.run(ops.renameat("d", "e", src_dir_fd=directory, dst_dir_fd=directory)) == 0
    assert not (tmp_path / "d").exists()
    (tmp_path / "f").write_bytes(b"f")
    assert kernel.run(ops.renameat(tmp_path / "e", tmp_path / "f", abi.RENAME_EXCHANGE)) == 0
    assert (tmp_path / "e").read_bytes() == b"f"
    for name in ("e", "f", "sub/b", "sub/c"):
        assert kernel.run(ops.unlinkat(name, dir_fd=directory)) == 0
    assert kernel.run(ops.unlinkat(tmp_path / "sub", abi.AT_REMOVEDIR)) == 0
    os.close(directory)
    assert sorted(os.listdir(tmp_path)) == ["a"]


@pytest.mark.opcodes("MKDIRAT", "UNLINKAT", "RENAMEAT", "SYMLINKAT", "LINKAT")
def test_names_fail_as_their_system_calls_do(kernel, tmp_path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "file").write_bytes(b"")
    with pytest.raises(FileExistsError):
        kernel.run(ops.mkdirat(tmp_path / "dir"))
    with pytest.raises(IsADirectoryError):
        kernel.run(ops.unlinkat(tmp_path / "dir"))
    with pytest.raises(OSError) as caught:
        kernel.run(ops.unlinkat(tmp_path / "dir", abi.AT_REMOVEDIR))
    assert caught.value.errno == errno.ENOTEMPTY
    with pytest.raises(FileNotFoundError, match=r"none'.* -> .*other'.*: renameat") as missing:
        kernel.run(ops.renameat(tmp_path / "none", str(tmp_path / "other")))
    assert missing.value.filename == str(tmp_path / "none")
    assert missing.value.filename2 == str(tmp_path / "other")
    copy = pickle.loads(pickle.dumps(missing.value))
    assert (copy.filename, copy.filename2) == (missing.value.filename, missing.value.filename2)
    with pytest.raises(FileExistsError):
        kernel.run(ops.renameat(tmp_path / "dir", tmp_path / "dir", abi.RENAME_NOREPLACE))
    with pytest.raises(FileExistsError):
        kernel.run(ops.symlinkat("x", tmp_path / "dir"))
    with pytest.raises(PermissionError):
        kernel.run(ops.linkat(tmp_path / "dir", tmp_path / "dir2"))


@pytest.mark.opcodes("SETXATTR", "GETXATTR", "FSETXATTR", "FGETXATTR")
def test_attributes_are_set_and_read(kernel, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"")
    fd = os.open(path, os.O_RDWR)
    assert kernel.run(ops.setxattr(path, "user.one", b"by path")) == 0
    assert kernel.run(ops.fgetxattr(fd, "user.one")) == b"by path"
    assert kernel.run(ops.fsetxattr(fd, b"user.two", bytearray(b"by fd"))) == 0
    assert kernel.run(ops.getxattr(path, "user.two")) == b"by fd"
    assert os.getxattr(path, "user.two") == b"by fd"
    room = bytearray(64)
    assert kernel.run(ops.getxattr(path, "user.one", room)) == 7
    assert room[:7] == b"by path"
    assert kernel.run(ops.fgetxattr(fd, "user.one", bytearray())) == 7
    kernel.register_files(fd)
    assert kernel.run(ops.fsetxattr(0, "user.three", b"", fixed_file=True)) == 0
    assert kernel.run(ops.fgetxattr(0, "user.three", fixed_file=True)) == b""
    os.close(fd)


@pytest.mark.opcodes("SETXATTR", "GETXATTR", "FSETXATTR", "FGETXATTR")
def test_attributes_fail_as_their_system_calls_do(kernel, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"")
    fd = os.open(path, os.O_RDWR)
    os.setxattr(path, "user.it", b"12345")
    assert kernel.result(ops.getxattr(path, "user.none")) == -errno.ENODATA
    assert kernel.result(ops.fgetxattr(fd, "user.it", bytearray(3))) == -errno.ERANGE
    assert kernel.result(ops.setxattr(path, "user.it", b"", abi.XATTR_CREATE)) == -errno.EEXIST
    assert kernel.result(ops.fsetxattr(fd, "user.no", b"", abi.XATTR_REPLACE)) == -errno.ENODATA
    assert kernel.result(ops.getxattr(tmp_path / "none", "user.it")) == -errno.ENOENT
    assert kernel.result(ops.setxattr(path, "nonsense", b"x")) == -errno.EOPNOTSUPP
    os.close(fd)


@pytest.mark.opcodes("FILES_UPDATE", "FIXED_FD_INSTALL")
def test_descriptors_go_into_the_table_and_come_out(kernel):
    kernel.register_files(-1, -1, -1, -1)
    a, b = socket.socketpair()
    assert kernel.run(ops.files_update([a.fileno(), b.fileno()], 1)) == 2
    first = kernel.run(ops.files_update([a.fileno()], ALLOC))
    # Only one slot is left for these two.
    second = kernel.run(ops.files_update([b.fileno(), a.fileno()], ALLOC))
    assert sorted(first + second) == [0, 3]
    fd = kernel.run(ops.fixed_fd_install(1))
    assert os.fstat(fd).st_ino == os.fstat(a.fileno()).st_ino
    assert not os.get_inheritable(fd)
    os.close(fd)
    fd = kernel.run(ops.fixed_fd_install(1, cloexec=False))
    assert os.get_inheritable(fd)
    os.close(fd)
    assert kernel.run(ops.files_update([-1, -1], 0)) == 2
    assert kernel.result(ops.fixed_fd_install(1)) == -errno.EBADF
    assert kernel.result(ops.files_update([-1], 4)) == -errno.EINVAL
    a.close()
    b.close()


def test_a_descriptor_that_nobody_receives_is_closed(kernel, tmp_path):
    op = ops.openat(tmp_path)
    fd = kernel.result(op)
    op.discard(fd)
    with pytest.raises(OSError):
        os.fstat(fd)
    assert ops.openat(tmp_path, file_index=ALLOC).discard is None
    assert ops.fixed_fd_install(0).discard is not None


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: ops.openat(5), TypeError),
        (lambda: ops.openat("a\0b"), ValueError),
        (lambda: ops.openat("a", -1), ValueError),
        (lambda: ops.openat("a", "r"), TypeError),
        (lambda: ops.openat("a", file_mode=1 << 32), ValueError),
        (lambda: ops.openat("a", dir_fd=-100), ValueError),
        (lambda: ops.openat("a", file_index=-1), ValueError),
        (lambda: ops.openat("a", file_index=1 << 20), ValueError),
        (lambda: ops.openat("a", file_index="0"), TypeError),
        (lambda: ops.openat("a", fixed_file=True), TypeError),
        (lambda: ops.openat2("a", resolve=-1), ValueError),
        (lambda: ops.openat2("a", resolve=1 << 64), ValueError),
        (lambda: ops.close(-1), ValueError),
        (lambda: ops.close_direct(ALLOC), ValueError),
        (lambda: ops.statx(None), TypeError),
        (lambda: ops.statx("a", mask=1 << 31), ValueError),
        (lambda: ops.statx("a", flags=-1), ValueError),
        (lambda: ops.renameat("a", b"b\0"), ValueError),
        (lambda: ops.renameat("a", "b", dst_dir_fd="x"), TypeError),
        (lambda: ops.unlinkat(b"\0"), ValueError),
        (lambda: ops.mkdirat("a", file_mode=-1), ValueError),
        (lambda: ops.symlinkat("a\0", "b"), ValueError),
        (lambda: ops.linkat("a", 7), TypeError),
        (lambda: ops.getxattr("a", "user.x", b"read-only"), TypeError),
        (lambda: ops.getxattr("a", "x\0"), ValueError),
        (lambda: ops.setxattr("a", "x", "text"), TypeError),
        (lambda: ops.setxattr("a", "x", bytes(65537)), ValueError),
        (lambda: ops.fsetxattr(-1, "x", b""), ValueError),
        (lambda: ops.fgetxattr("f", "x"), TypeError),
        (lambda: ops.files_update([]), ValueError),
        (lambda: ops.files_update([-2]), ValueError),
        (lambda: ops.files_update([1], -1), ValueError),
        (lambda: ops.files_update(["1"]), TypeError),
        (lambda: ops.fixed_fd_install(-1), ValueError),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_queued(call, error):
    with pytest.raises(error):
        call()
