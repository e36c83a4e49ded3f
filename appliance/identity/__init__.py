"""Identity: who a DID or a handle is.

Owns the identity columns of ``actor``. Keeps: a handle is shown only when it and the DID document
name each other. Start at identities.py. Leaves the address policy to outbound.
"""
