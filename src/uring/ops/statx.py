"""``struct statx`` as a Python value."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..abi.layouts import STATX

__all__ = ["StatxResult", "decode_statx"]

_NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class StatxResult:
    """The attributes of a file from statx(2): those of `os.stat_result`, and those of statx alone.

    ``mask`` has the ``STATX_*`` bits of the attributes that the file system filled in; the others are zero.
    Times are in nanoseconds since the epoch where the name ends in ``_ns``, else in seconds.
    """

    mask: int
    st_mode: int
    st_ino: int
    st_dev: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_size: int
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_birthtime_ns: int
    st_blksize: int
    st_blocks: int
    st_rdev: int
    attributes: int
    attributes_mask: int
    mnt_id: int
    dio_mem_align: int
    dio_offset_align: int
    dio_read_offset_align: int
    subvol: int
    atomic_write_unit_min: int
    atomic_write_unit_max: int
    atomic_write_unit_max_opt: int
    atomic_write_segments_max: int

    @property
    def st_atime(self) -> float:
        return _seconds(self.st_atime_ns)

    @property
    def st_mtime(self) -> float:
        return _seconds(self.st_mtime_ns)

    @property
    def st_ctime(self) -> float:
        return _seconds(self.st_ctime_ns)

    @property
    def st_birthtime(self) -> float:
        """When the file was made; 0 where the file system does not say (``STATX_BTIME`` not in ``mask``)."""
        return _seconds(self.st_birthtime_ns)

    def as_stat_result(self) -> os.stat_result:
        """The same as `os.stat` would return it."""
        seconds = [ns // _NANO for ns in (self.st_atime_ns, self.st_mtime_ns, self.st_ctime_ns)]
        return os.stat_result(
            (
                self.st_mode,
                self.st_ino,
                self.st_dev,
                self.st_nlink,
                self.st_uid,
                self.st_gid,
                self.st_size,
                *seconds,
            ),
            {name: getattr(self, name) for name in _EXTRA},
        )


_EXTRA = (
    "st_atime",
    "st_mtime",
    "st_ctime",
    "st_atime_ns",
    "st_mtime_ns",
    "st_ctime_ns",
    "st_blksize",
    "st_blocks",
    "st_rdev",
)


def _seconds(ns: int) -> float:
    # As os.stat computes it, to the last bit.
    return ns // _NANO + 1e-9 * (ns % _NANO)


def decode_statx(memory: memoryview) -> StatxResult:
    """The structure that the kernel wrote, decoded."""
    (
        mask, blksize, attributes, nlink, uid, gid, mode, ino, size, blocks, attributes_mask,
        atime, atime_ns, btime, btime_ns, ctime, ctime_ns, mtime, mtime_ns,
        rdev_major, rdev_minor, dev_major, dev_minor, mnt_id, dio_mem_align, dio_offset_align, subvol,
        atomic_min, atomic_max, atomic_segments, dio_read_offset_align, atomic_max_opt,
    ) = STATX.unpack_from(memory)  # fmt: skip
    return StatxResult(
        mask=mask,
        st_mode=mode,
        st_ino=ino,
        st_dev=os.makedev(dev_major, dev_minor),
        st_nlink=nlink,
        st_uid=uid,
        st_gid=gid,
        st_size=size,
        st_atime_ns=atime * _NANO + atime_ns,
        st_mtime_ns=mtime * _NANO + mtime_ns,
        st_ctime_ns=ctime * _NANO + ctime_ns,
        st_birthtime_ns=btime * _NANO + btime_ns,
        st_blksize=blksize,
        st_blocks=blocks,
        st_rdev=os.makedev(rdev_major, rdev_minor),
        attributes=attributes,
        attributes_mask=attributes_mask,
        mnt_id=mnt_id,
        dio_mem_align=dio_mem_align,
        dio_offset_align=dio_offset_align,
        dio_read_offset_align=dio_read_offset_align,
        subvol=subvol,
        atomic_write_unit_min=atomic_min,
        atomic_write_unit_max=atomic_max,
        atomic_write_unit_max_opt=atomic_max_opt,
        atomic_write_segments_max=atomic_segments,
    )
