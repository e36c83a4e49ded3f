"""Building: from this checkout to an environment, an archive, and the answers of the checks.

Standard library only, except packing.py, which runs inside the environment.
Start at commands.py. Leaves everything that an operator sees to the package appliance.
"""
