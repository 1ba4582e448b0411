"""How a question gets its answer: ours, or refused; never forwarded if it is ours.

May import ``store``, ``zone``, ``inventory``, ``wire`` and ``errors``.
Must never do network I/O or wait: an answer is a pure function of (store transaction, query bytes after the id).
"""
