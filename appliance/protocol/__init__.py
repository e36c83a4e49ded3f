"""Protocol: AT Protocol data as pure values. Syntax, codecs, trees, signatures, events.

Does no I/O and keeps no state. Keeps: exactness (published vectors pass byte for byte).
Start at events.py for what the rest of the system consumes.
"""
