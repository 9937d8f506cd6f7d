"""Error numbers that completions carry (negated), under their usual names."""

import errno
from typing import Final

__all__ = [
    "EACCES",
    "EADDRINUSE",
    "EADDRNOTAVAIL",
    "EAFNOSUPPORT",
    "EAGAIN",
    "EALREADY",
    "EBUSY",
    "ECANCELED",
    "ECONNABORTED",
    "ECONNREFUSED",
    "ECONNRESET",
    "EDESTADDRREQ",
    "EEXIST",
    "EFAULT",
    "EHOSTDOWN",
    "EHOSTUNREACH",
    "EINPROGRESS",
    "EINTR",
    "EINVAL",
    "EISCONN",
    "EMFILE",
    "EMSGSIZE",
    "ENAMETOOLONG",
    "ENETDOWN",
    "ENETRESET",
    "ENETUNREACH",
    "ENFILE",
    "ENOBUFS",
    "ENODEV",
    "ENOMEM",
    "ENOPROTOOPT",
    "ENOSYS",
    "ENOTCONN",
    "ENOTSOCK",
    "ENOTSUP",
    "EOPNOTSUPP",
    "EPERM",
    "EPIPE",
    "EPROTONOSUPPORT",
    "EPROTOTYPE",
    "ESHUTDOWN",
    "ETIMEDOUT",
    "EWOULDBLOCK",
]

EPERM: Final = errno.EPERM
EINTR: Final = errno.EINTR
EAGAIN: Final = errno.EAGAIN
EWOULDBLOCK: Final = errno.EWOULDBLOCK
ENOMEM: Final = errno.ENOMEM
EACCES: Final = errno.EACCES
EFAULT: Final = errno.EFAULT
EBUSY: Final = errno.EBUSY
EEXIST: Final = errno.EEXIST
ENAMETOOLONG: Final = errno.ENAMETOOLONG
ENODEV: Final = errno.ENODEV
EINVAL: Final = errno.EINVAL
EPIPE: Final = errno.EPIPE
EMFILE: Final = errno.EMFILE
ENFILE: Final = errno.ENFILE
ENOSYS: Final = errno.ENOSYS
ENOTSUP: Final = errno.ENOTSUP
EINPROGRESS: Final = errno.EINPROGRESS
EALREADY: Final = errno.EALREADY
ENOTSOCK: Final = errno.ENOTSOCK
EDESTADDRREQ: Final = errno.EDESTADDRREQ
EMSGSIZE: Final = errno.EMSGSIZE
EPROTOTYPE: Final = errno.EPROTOTYPE
ENOPROTOOPT: Final = errno.ENOPROTOOPT
EPROTONOSUPPORT: Final = errno.EPROTONOSUPPORT
EOPNOTSUPP: Final = errno.EOPNOTSUPP
EAFNOSUPPORT: Final = errno.EAFNOSUPPORT
EADDRINUSE: Final = errno.EADDRINUSE
EADDRNOTAVAIL: Final = errno.EADDRNOTAVAIL
ENETDOWN: Final = errno.ENETDOWN
ENETUNREACH: Final = errno.ENETUNREACH
ENETRESET: Final = errno.ENETRESET
ECONNABORTED: Final = errno.ECONNABORTED
ECONNRESET: Final = errno.ECONNRESET
ENOBUFS: Final = errno.ENOBUFS
EISCONN: Final = errno.EISCONN
ENOTCONN: Final = errno.ENOTCONN
ESHUTDOWN: Final = errno.ESHUTDOWN
ETIMEDOUT: Final = errno.ETIMEDOUT
ECONNREFUSED: Final = errno.ECONNREFUSED
EHOSTDOWN: Final = errno.EHOSTDOWN
EHOSTUNREACH: Final = errno.EHOSTUNREACH
ECANCELED: Final = errno.ECANCELED
