"""What the mesh says: names, virtual IPs, ports, where each came from; naming rules of ``.mesh``; the ``/dns`` codec.

May import the standard library and ``errors`` only: values and plain functions, no I/O, no clock.
Must never know DNS wire format, the store, or any control plane's messages.
"""
