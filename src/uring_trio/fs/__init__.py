"""Files without a thread: `open_file`, and the files it returns."""

from .base import RingFile
from .buffered import BufferedFile
from .direct import DirectFile, open_direct
from .opening import open_file
from .raw import RawFile
from .text import TextFile

__all__ = ["BufferedFile", "DirectFile", "RawFile", "RingFile", "TextFile", "open_direct", "open_file"]
