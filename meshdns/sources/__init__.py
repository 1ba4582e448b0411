"""Other ways to learn names: a records file, kuma-dp's unix socket; the same shape as ``xds``: a stream of events.

May import ``inventory``, ``errors`` and the standard library (PyYAML for files).
Must never touch the store or gRPC, and never end because of bad input.
"""
