"""The first code of the archive: says what is wrong with this Python or machine, then starts.

Any Python must be able to read this file, or nobody would see the sentence.
"""

# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False, check-untyped-defs=True
import os
import sys

SQLITE_OLDEST = (3, 37)  # the first with STRICT tables


def main():
    """Start the appliance, or tell why it can't run here."""
    import _built_for  # type: ignore[import-not-found]  # made by packing.py

    wrong = complaint(_built_for)
    if wrong:
        sys.stderr.write("appliance: " + wrong + "\n")
        sys.exit(1)
    import _unpacked  # type: ignore[import-not-found]  # beside this file in the archive

    _unpacked.start(_built_for)


def complaint(built_for):
    """The sentence for the operator, or an empty string when all is well."""
    pythons = list(built_for.PYTHONS)
    version = tuple(sys.version_info[:2])
    if version not in pythons:
        names = " or ".join("%d.%d" % each for each in pythons)
        if len(pythons) > 2:
            names = "%d.%d to %d.%d" % (pythons[0] + pythons[-1])
        return "this file holds what Python %s needs, and this is Python %d.%d (%s).\n%s" % (
            names,
            version[0],
            version[1],
            sys.executable,
            _advice(pythons),
        )
    if sys.implementation.name != "cpython":
        return "this file is made for CPython, and this is %s (%s)." % (
            sys.implementation.name,
            sys.executable,
        )
    if "t" in getattr(sys, "abiflags", ""):
        return "this file is not made for the free-threaded Python (%s): take the ordinary one." % (
            sys.executable
        )
    machine = os.uname()[4] if hasattr(os, "uname") else "unknown"
    if (sys.platform, machine) != (built_for.SYSTEM, built_for.MACHINE) or sys.maxsize < 2**32:
        return "this file is made for %s on %s, and this Python runs on %s, %s, %d bits." % (
            built_for.SYSTEM,
            built_for.MACHINE,
            sys.platform,
            machine,
            64 if sys.maxsize > 2**32 else 32,
        )
    if built_for.GLIBC:
        try:
            name, _, number = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
            found = tuple(int(part) for part in number.split(".")[:2])
        except (ValueError, OSError, AttributeError):
            name, number, found = "", "none", ()
        if name != "glibc" or found < tuple(built_for.GLIBC):
            return "this file needs glibc %d.%d or newer, and this system has %s." % (
                tuple(built_for.GLIBC) + (number if name == "glibc" else "another C library",)
            )
    try:
        import sqlite3
    except ImportError:
        return "this Python (%s) was built without SQLite." % sys.executable
    if sqlite3.sqlite_version_info[:2] < SQLITE_OLDEST:
        return "this Python (%s) has SQLite %s, and %d.%d or newer is needed." % (
            (sys.executable, sqlite3.sqlite_version) + SQLITE_OLDEST
        )
    return ""


def _advice(pythons):
    """Name a fitting Python of this machine, if there is one."""
    for version in reversed(pythons):
        name = "python%d.%d" % version
        for folder in os.environ.get("PATH", "").split(os.pathsep):
            if folder and os.access(os.path.join(folder, name), os.X_OK):
                return "This machine has one that fits: %s %s" % (
                    os.path.join(folder, name),
                    " ".join(sys.argv),
                )
    return (
        "Install one that fits, or take the file that was made for yours (build.py pyz --release makes"
        " one for all)."
    )
