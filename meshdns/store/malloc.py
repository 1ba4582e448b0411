"""The C library's memory, where it can be told to give back what is free."""


def trim() -> None:
    """Give the system all free pages of the heap (glibc; elsewhere nothing happens)."""
    import ctypes  # noqa: PLC0415 - a megabyte that most processes never need

    found = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if found is not None:
        found(0)
