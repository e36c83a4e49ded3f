"""XRPC: the machine's side of the appliance.

Owns the private state of viewers that clients change here (mutes, bookmarks) and takedowns. Keeps:
a caller's mistake is a 400 or 401 with the protocol's name, never a 500.
Start at asgi.py, then methods.py. Leaves what an answer says to timeline.
"""
