"""Documented modules under the paths that they had before: ``import uring.views`` finds ``views`` here.

The folder is on the search path of the package `uring`. Each module has the public names of the one it names.
"""
