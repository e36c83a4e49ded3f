"""The appliance: a complete, chronological, gap-free timeline in one file."""

__version__ = "0.1.0"
