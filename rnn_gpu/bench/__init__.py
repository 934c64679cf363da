"""Benchmarks: what is measured, on which numbers, how it is timed, and side by side with whom.

One definition for `rnn-gpu bench` and for the asv suite. No peer is imported before it is measured.
"""
