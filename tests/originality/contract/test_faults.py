"""Errors of a card, memory, a disk or a connection are the machine's; all others are not."""

from __future__ import annotations

import errno
import socket

import pytest
import torch

from originality.contract.config import SettingsError
from originality.contract.faults import MachineFault, is_machine_fault, line_of
from originality.model.attention import choose
from originality.model.library_errors import library_errors

MACHINES = [
    torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 22 GiB"
    ),
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later"),
    RuntimeError("CUDA error: uncorrectable ECC error encountered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("cuFFT error: CUFFT_INTERNAL_ERROR"),
    RuntimeError("cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR"),
    RuntimeError("NCCL error in: ProcessGroupNCCL.cpp, unhandled system error"),
    RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
    RuntimeError("No CUDA GPUs are available"),
    RuntimeError("Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"),
    RuntimeError("CUDA driver version is insufficient for CUDA runtime version"),
    RuntimeError("CUDA-capable device(s) is/are busy or unavailable"),
    RuntimeError("cuDNN Frontend error: [cudnn_frontend] Error: No execution plans support the graph."),
    RuntimeError("CUDNN_FE failure 11: CUDNN_BACKEND_API_FAILED"),
    RuntimeError('NVML_SUCCESS == r INTERNAL ASSERT FAILED at "CUDACachingAllocator.cpp":1016'),
    RuntimeError("Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized"),
    RuntimeError("cuda runtime error (2) : out of memory"),
    RuntimeError("cublasLt ran into an error!"),
    RuntimeError("Failed to find C compiler. Please specify via CC environment variable"),
    ImportError("libcudnn.so.9: cannot open shared object file: No such file or directory"),
    OSError(errno.ENOTCONN, "Transport endpoint is not connected"),
    RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.ESTALE, "Stale file handle"),
    OSError(errno.EROFS, "Read-only file system"),
    OSError(errno.EMFILE, "Too many open files"),
    RuntimeError("PytorchStreamWriter failed writing file: No space left on device"),
    ConnectionResetError("reset by peer"),
    TimeoutError("timed out"),
    socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
    MachineFault("the disk is full"),
]
OTHERS = [
    ValueError("the mask is empty"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    RuntimeError("Error(s) in loading state_dict for CLIPTextModel: size mismatch for weight"),
    SettingsError("model folder 'x' has no unet"),
    KeyError("cuda"),
    ValueError("CUDA error: no"),  # no library raises these as a ValueError
    FileNotFoundError(errno.ENOENT, "No such file or directory"),
    PermissionError(errno.EACCES, "Permission denied"),
    OSError("Error no file named config.json found in directory"),
    ZeroDivisionError("division by zero"),
]


def _named(error: Exception) -> str:
    return line_of(error)[:60]


@pytest.mark.parametrize("error", MACHINES, ids=_named)
def test_machine_faults(error: Exception) -> None:
    assert is_machine_fault(error)
    wrapped = ValueError("cannot be embedded")
    wrapped.__cause__ = error
    assert is_machine_fault(wrapped)


@pytest.mark.parametrize("error", OTHERS, ids=_named)
def test_errors_that_are_not_machine_faults(error: Exception) -> None:
    assert not is_machine_fault(error)


def test_an_error_handled_before_is_not_a_cause() -> None:
    """An item's own error that is raised ``from None`` while a machine's is handled stays the item's."""
    try:
        try:
            raise MACHINES[0]
        except RuntimeError:
            raise ValueError("the list says so") from None
    except ValueError as error:
        assert not is_machine_fault(error)


@pytest.mark.parametrize("error", MACHINES, ids=_named)
def test_no_reader_of_a_folder_turns_them_into_a_settings_error(error: Exception, tmp_path) -> None:
    with pytest.raises(type(error)) as caught, library_errors(f"folder {tmp_path}"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize("error", OTHERS[1:3], ids=_named)
def test_a_damaged_folder_is_still_one_line(error: Exception, tmp_path) -> None:
    with pytest.raises(SettingsError) as caught, library_errors(f"folder {tmp_path}"):
        raise error
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_failed_gpu_does_not_choose_the_attention(monkeypatch) -> None:
    """A trial that ends in an error which the device does not survive says nothing of attention."""
    from originality.model import attention

    def fails(*_given):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(attention.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(attention.importlib.metadata, "version", lambda name: "0.0.1")
    monkeypatch.setattr(attention, "try_xformers", fails)
    monkeypatch.setattr(attention, "still_computes", lambda device: False)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        choose("auto", [40], torch.device("cuda"), torch.float16)
    monkeypatch.setattr(attention, "still_computes", lambda device: True)
    assert choose("auto", [40], torch.device("cuda"), torch.float16).name == "sdpa"
