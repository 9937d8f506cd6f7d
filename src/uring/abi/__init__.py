"""The io_uring user API of Linux 6.18 as Python numbers, with the additions of later kernels up to 7.2.

Every constant is a member of an IntEnum or IntFlag and also a name of this package, under its kernel
spelling; the few that stand alone (shifts, masks, sizes) are plain integers. The package imports nothing but
the standard library and never calls the kernel. Only the error numbers are the platform's; all others are
Linux's on every platform. Layouts of structures are in uring.abi.layouts.
"""

from . import entries, errnos, files, memory, opflags, register, setup, sizes, sockets, waiting
from .entries import *  # noqa: F403
from .errnos import *  # noqa: F403
from .files import *  # noqa: F403
from .memory import *  # noqa: F403
from .opflags import *  # noqa: F403
from .register import *  # noqa: F403
from .setup import *  # noqa: F403
from .sizes import *  # noqa: F403
from .sockets import *  # noqa: F403
from .waiting import *  # noqa: F403

__all__: list[str] = []
__all__ += entries.__all__
__all__ += errnos.__all__
__all__ += files.__all__
__all__ += memory.__all__
__all__ += opflags.__all__
__all__ += register.__all__
__all__ += setup.__all__
__all__ += sizes.__all__
__all__ += sockets.__all__
__all__ += waiting.__all__
