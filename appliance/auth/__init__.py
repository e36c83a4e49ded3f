"""Auth: who is asking.

Verifies service tokens, signs members in at their own PDS, keeps those tokens sealed, gives out
our own. Keeps: secrets-stay-in. Start at viewers.py. Leaves records to writes.
"""
