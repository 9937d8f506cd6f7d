"""`uring.machines.lifecycle` under its earlier path."""

from uring.machines.lifecycle import *

if __name__ == "__main__":
    print(diagram())
