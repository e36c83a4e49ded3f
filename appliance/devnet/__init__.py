"""Devnet: a small AT Protocol network on loopback, with its own idea of the truth.

A PLC directory, personal data servers with differing dialects, a relay, both Jetstream wires, and a
seeded world of people who go on living. Uses protocol and clock and nothing else of the appliance,
so that it can judge it. Keeps: one log drives every stream, truth-is-the-repositories.
Start at network.py.
"""
