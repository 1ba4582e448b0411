"""What DNS says: records compiled to owner-name entries, and the lookup that turns a question into an answer.

May import ``inventory``, ``wire`` and ``errors``; reads entries only through the ``get`` it is handed.
Must never do I/O, and never learn where entries are kept or who asks.
"""
