#!/usr/bin/env python3
"""The one entry for everything that is made or checked here. Needs only the standard library.

python3 build.py demo           build dist/appliance.pyz if anything changed, and start the demo
python3 build.py test           the tests; with --long also those that take minutes
python3 build.py check          format, lint, types, and the code and docs checked against each other
python3 build.py pyz            dist/appliance.pyz for the Python that runs this
python3 build.py pyz --release  one file a processor that holds every supported Python
python3 build.py mutants        one-edit bugs, each of which a test must catch
python3 build.py bench          the benchmarks
python3 build.py conformance FOLDER..   our answers beside recorded official ones
python3 build.py truth INFO     what members of a running demo see beside the repositories, row by row
python3 build.py docs           write the generated pages of docs/ anew
python3 build.py lock           resolve the requirements anew; with --upgrade to newer versions

Further arguments go on to the tool behind the command.
"""

# Read by any Python 3, so that an old one can say what is missing: no newer syntax in this file.
import os
import sys

OLDEST = (3, 11)


def main():  # type: () -> int
    """Run the command that was asked for; its exit code."""
    if sys.version_info < OLDEST:
        sys.stderr.write(
            "build.py needs Python %d.%d or newer, and this is %d.%d (%s).\n"
            "On Debian 12 and newer, and on Ubuntu 24.04 and newer: apt install python3 python3-venv\n"
            % (OLDEST[0], OLDEST[1], sys.version_info[0], sys.version_info[1], sys.executable)
        )
        return 1
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from building import commands

    return commands.main(sys.argv[1:], __doc__ or "")


if __name__ == "__main__":
    sys.exit(main())
