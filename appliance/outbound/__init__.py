"""Outbound: the only place that opens connections outward.

Keeps: addresses chosen by strangers never reach our own network; no answer is larger or slower than
its class of fetch allows; no host is asked more than it wants. Start at client.py.
"""
