"""Looks whether this machine can build the package, and says in one sentence what to install when it cannot.

Runs on the interpreter that the virtual environment will be made from, before there is one: standard library
only, and in syntax that an old Python still reads. setup.py asks it where the compiler failed.
"""

import os
import subprocess
import sys
import sysconfig

# For each package manager: how it installs, and what it calls a compiler, Python's headers, and venv.
MANAGERS = [
    ("apt-get", "apt-get install", "build-essential", "python{v}-dev", "python{v}-venv"),
    ("dnf", "dnf install", "gcc glibc-devel", "python{v}-devel", "python{v}"),
    ("zypper", "zypper install", "gcc glibc-devel", "python{n}-devel", "python{n}"),
    ("apk", "apk add", "build-base", "python3-dev", "python3"),
    ("pacman", "pacman -S", "base-devel", "python", "python"),
]
COMPILER, HEADERS, VENV = 2, 3, 4


def main():
    version = "%d.%d" % sys.version_info[:2]
    if sys.version_info < (3, 11):
        return "Python %s is too old: install python3.11 or later, or name it with PYTHON=." % version
    missing = cannot_compile()
    if missing:
        return missing
    if not has_venv():
        venv = install(VENV, "python%s-venv" % version)
        return "Python %s cannot make virtual environments here: %s." % (version, venv)
    return None


def cannot_compile():
    """Why an extension cannot be compiled here, and what to install; None where it can."""
    import shlex

    version = "%d.%d" % sys.version_info[:2]
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if not compiles(compiler, "#include <stdio.h>"):
        return "The C compiler (%s) is missing or does not work: %s." % (
            compiler[0],
            install(COMPILER, "gcc"),
        )
    if not compiles(compiler, "#include <Python.h>"):
        return "Python %s has no C headers here: %s." % (version, install(HEADERS, "python%s-dev" % version))
    return None


def compiles(compiler, source):
    include = ["-I" + sysconfig.get_path(name) for name in ("include", "platinclude")]
    command = compiler + include + ["-x", "c", "-fsyntax-only", "-"]
    try:
        ran = subprocess.run(command, input=source.encode() + b"\n", capture_output=True, check=False)
    except OSError:
        return False
    return ran.returncode == 0


def has_venv():
    # Debian ships ensurepip apart from venv: both must be there.
    command = [sys.executable, "-c", "import venv, ensurepip"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def install(what, otherwise):
    import shutil

    version = "%d.%d" % sys.version_info[:2]
    for manager in MANAGERS:
        if shutil.which(manager[0]):
            packages = manager[what].format(v=version, n=version.replace(".", ""))
            return "install it with `%s %s`" % (manager[1], packages)
    return "install the package %s, or what it is called on this system" % otherwise


if __name__ == "__main__":
    sys.exit(main())
