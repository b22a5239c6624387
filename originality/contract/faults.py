"""Whose fault is an error? Tells the machine's own faults from those of an item or of the settings.

Imports neither torch nor a driver: the engine asks this of every exception, also where no model is loaded.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator

from originality.contract.redaction import Masked, masked


class MachineFault(Masked, RuntimeError):  # noqa: N818 - it says whose fault it is
    """This process or its machine can no longer score: a graphics card, a disk or a network failed here.

    No item is to blame. The engine gives the work back and lets another worker do it, on another machine
    where there is one. The message is one line.
    """


class ItemFault(Masked):
    """This item, and surely nothing else, is why it cannot be scored. The engine records that at once,
    without a second opinion of another worker."""


_CARD_CLASSES = frozenset({"OutOfMemoryError", "AcceleratorError", "DeferredCudaCallError", "OutOfResources"})
"""Names of exceptions of torch and triton. Those of torch are RuntimeErrors."""

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
"""Of libraries that raise a plain RuntimeError for what the card, its driver, memory or a disk did."""

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
"""Of the operating system: memory, disks, mounts, devices and connections of this machine."""


def is_machine_fault(error: BaseException) -> bool:
    """Whether the machine, and no item or setting, caused an error or one that it was raised from."""
    return any(map(_is_machines, _with_causes(error)))


def machine_fault(error: BaseException) -> MachineFault:
    """The error as a :class:`MachineFault` of one line; itself where it is one. To be raised from it."""
    return error if isinstance(error, MachineFault) else MachineFault(line_of(error))


def line_of(error: BaseException) -> str:
    """An exception as one line: its class and the first line of its message, without secrets."""
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
    # of an error of the system its reason alone: the rest is the name of a file, which may be anything
    reason = error.strerror if isinstance(error, OSError) and error.errno is not None else str(error)
    return bool(_MESSAGES.search(reason or ""))


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from, and so on; each once."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
