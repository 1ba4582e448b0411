"""argv → one call: a file a verb.

May import everything. Must never do work that another room could do, and loads a verb's imports only for that verb.
"""
