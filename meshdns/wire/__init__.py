"""Bytes ↔ DNS words: the guard, names, queries, RRsets, replies, TCP framing.

May import the standard library, ``errors`` and (here only) dnslib: no I/O, no clock, no randomness.
Must never know what a mesh, a zone or a store is, and never hand bytes to a library that the guard did not bound.
"""
