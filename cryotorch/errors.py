"""The one exception that users meet, and how to tell that memory ran out."""

# Libraries that take memory of their own have no type of error for it, and torch has none for the host's.
_FULL = (
    *("CUFFT_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED", "CUDA out of memory"),
    *("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory"),
)


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence for a person: what is wrong, which value, what to do. The command line prints
    it without a traceback and exits with code 1.
    """


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of a device, or of the host, is full."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and any(sign in str(error) for sign in _FULL))
    )
