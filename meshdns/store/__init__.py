"""What is kept: the one meeting place of the push street (its single writer) and the query street (its readers).

May import lmdb (here only), ``zone``, ``inventory``, ``wire`` and ``errors``.
Must never know control planes, sockets or processes; a commit is a publish, and a reader never locks.
"""
