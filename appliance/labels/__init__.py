"""Labelers: their streams of signed labels, and which labelers our members ask for.

Owns label, labeler and labeler_subscription. Keeps: position-with-rows. Start at labelers.py. What
labels do to an answer is decided in timeline.
"""
