"""Classifies errors by cause: the machine's, as opposed to an item's or the settings'.

The engine classifies every exception with it, also where no model is loaded. So it imports neither torch nor
a driver, and recognises their errors by class name and message.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator

from originality.contract.redaction import Masked, masked


class MachineFault(Masked, RuntimeError):  # noqa: N818 - named after the cause
    """This process or its machine can no longer score: its GPU, disk or network failed.

    No item is the cause. The engine returns the work and gives it to another worker, on a different machine
    if there is one. The message is one line.
    """


class ItemFault(Masked):
    """The item itself, and certainly nothing else, is why it cannot be scored. The engine records that at
    once, without a second attempt by another worker."""


_CARD_CLASSES = frozenset({"OutOfMemoryError", "AcceleratorError", "DeferredCudaCallError", "OutOfResources"})
"""Names of GPU exceptions of torch and triton. Those of torch are subclasses of RuntimeError."""

_MESSAGES = re.compile(
    r"CUDA (?:error|driver|runtime|out of memory|fail|unknown error)|CUDA-capable device"
    r"|CUDA_ERROR_|\bcuda(?:Error|Launch|Malloc|Stream|Event|Get|Set|Memcpy|Memset|Device|Free|Host)\w+"
    r"|CUDNN_BACKEND|cudnn[_ ]?(?:frontend|fe)\b|CUDACachingAllocator|NVML_|cublas\w* ran into an error"
    r"|lib(?:cud|cublas|nv|nccl|cufft|cuda)\w*\.so|Failed to find C compiler|out of resource"
    r"|No CUDA GPUs are available|NVIDIA driver|Triton Error \[|device-side assert|illegal memory access"
    r"|unspecified launch failure|uncorrectable ECC|device(?:\(s\))? (?:is|are) busy or unavailable"
    r"|CUBLAS_STATUS_|CUDNN_STATUS_|CUFFT_|CUSOLVER_|CUSPARSE_STATUS_|CURAND_STATUS_|NVRTC_ERROR"
    r"|\bcu(?:DNN|BLAS|FFT|RAND|SOLVER|SPARSE|solver|sparse|blas|fft|rand) error"
    r"|\b(?:NCCL|NVML|HIP|MPS|XPU) (?:error|backend out of memory|out of memory)|miopen\w* error|nvrtc: error"
    r"|GET was unable to find an engine|unable to find an engine to execute"
    r"|DefaultCPUAllocator|can't allocate memory|[Cc]annot allocate memory|std::bad_alloc|[Oo]ut of memory"
    r"|No space left on device|Disk quota exceeded|Input/output error|Stale file handle|Too many open files",
    re.IGNORECASE,
)
"""Messages of libraries that raise a plain RuntimeError for faults of GPU, driver, memory or disk."""

_ERRNOS = frozenset(
    number
    for name in (
        *("EIO", "ENOMEM", "ENOSPC", "EDQUOT", "EROFS", "EMFILE", "ENFILE", "ENXIO", "ENODEV", "ESTALE"),
        *("EAGAIN", "EBUSY", "ENETDOWN", "ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH", "ECONNREFUSED"),
        *("ECONNRESET", "ECONNABORTED", "ETIMEDOUT", "EPIPE", "EREMOTEIO", "ENOBUFS", "ENOTCONN", "EUCLEAN"),
        *("EBADMSG", "ESHUTDOWN", "ENETRESET"),
    )
    if (number := getattr(errno, name, None)) is not None
)
"""Error numbers of the operating system for faults of memory, disks, mounts, devices and connections."""


def is_machine_fault(error: BaseException) -> bool:
    """Whether the machine, not an item or a setting, caused an error or one of the errors behind it."""
    return any(map(_is_machines, _with_causes(error)))


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its class if it has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def line_of(error: BaseException) -> str:
    """Describe an exception in one line: its class and the first line of its message, secrets masked."""
    message = next((line.strip() for line in masked(str(error)).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _is_machines(error: BaseException) -> bool:
    if isinstance(error, MachineFault | MemoryError | ConnectionError | TimeoutError | socket.gaierror):
        return True
    if isinstance(error, OSError) and error.errno in _ERRNOS:
        return True
    kinds = type(error).__mro__
    if any(
        kind.__name__ in _CARD_CLASSES and kind.__module__.split(".")[0] in ("torch", "triton")
        for kind in kinds
    ):
        return True
    if not isinstance(error, RuntimeError | OSError | SystemError | ImportError):
        return False
    # Of a system error only the reason is searched: the rest is a file name, which users choose and which may
    # contain any of the messages.
    reason = error.strerror if isinstance(error, OSError) and error.errno is not None else str(error)
    return bool(_MESSAGES.search(reason or ""))


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """The error and the chain of errors that it was raised from, each once."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
