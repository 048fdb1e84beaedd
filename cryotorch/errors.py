"""The exceptions that users meet, who of several processes tells them, and how to tell that memory ran out."""

import os

TOLD = "CRYOTORCH_TOLD"  # file that the first of several processes makes that tells why all of them end
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


class Stopped(KeyboardInterrupt):
    """The run was asked to stop; ``code`` is the process's exit code, 130 after Ctrl-C and 143 after SIGTERM."""

    def __init__(self, *said: str, code: int = 130) -> None:
        super().__init__(*said)
        self.code = code


class DryRun(Exception):
    """A dry run has come to where the work would begin; nothing is wrong, and nothing was written."""


def first_to_tell() -> bool:
    """Whether no other process of this run has said why it ends; it counts as said from now on."""
    path = os.environ.get(TOLD)
    if not path:
        return True
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    except OSError:  # all is over already
        return (
            not os.path.isdir(os.path.dirname(path)) and int(os.environ.get("LOCAL_RANK", 0)) == 0
        )
    return True


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of a device, or of the host, is full."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and any(sign in str(error) for sign in _FULL))
    )
