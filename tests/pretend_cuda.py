"""A pretended CUDA device, for machines without one.

    with pretended_cuda() as seen:
        volume = torch.zeros(32, 32, 32, device="cuda")
        ...
    seen.waits  # Counter: ("item", "ops/masks/soft.py:160") -> how often the host waited there

A tensor on it is an ordinary tensor of the CPU, of the subclass ``Far``, whose ``device`` is said to be cuda:0. The pretended device

* refuses what a real one refuses: operations on tensors of two devices, NumPy, generators of the CPU, products of whole numbers;
* counts where the host would wait: values read, results whose shape depends on values, copies other than from pinned memory;
* counts the bytes that are copied to the device and back.

Waits are seen in two places. The function that was called says which tensors lie where; a second mode below it sees the operations that
the function is made of, so that the read within ``torch.allclose`` counts as well.

It says nothing about speed, memory, or the rounding of real kernels; and what other programs do with a device's memory is not seen.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

CUDA, CPU = torch.device("cuda:0"), torch.device("cpu")
PACKAGE = str(Path(__file__).parents[1] / "cryotorch") + "/"
MEMORY = 2**33  # bytes of the device

# Operations whose result, or whose checks, the host reads: their shapes depend on values, or a solver may fail.
WAITING = set(
    "allclose nonzero masked_select bincount equal histc multinomial _unique2 unique_dim".split()
)
WAITING |= set("unique_consecutive _local_scalar_dense _linalg_check_errors".split())
WAITING |= set("linalg_lstsq linalg_eig _linalg_svd".split())
# Without a kernel for whole numbers on CUDA devices.
PRODUCTS = set("mm bmm addmm baddbmm mv addmv dot".split())
# What may see tensors of both devices: copies, and indices that torch copies by itself.
COPIES = set("copy_ __setitem__ __getitem__ type_as set_ index_put_".split())
GET_DEVICE, GET_IS_CUDA = Tensor.device.__get__, Tensor.is_cuda.__get__
GET_IS_CPU = Tensor.is_cpu.__get__


class Memory:
    """Bytes of the tensors that live on the device, and the most so far; what kernels take for themselves is not seen."""

    def __init__(self) -> None:
        self.peak = self._sum = 0
        # a weak reference keeps its address from being another's
        self._held: dict[int, tuple[StorageWeakRef, int]] = {}

    @property
    def now(self) -> int:
        self._held = {k: v for k, v in self._held.items() if not v[0].expired()}
        self._sum = sum(size for _, size in self._held.values())
        return self._sum

    def see(self, made: Any) -> None:
        """New tensors, or old ones."""
        for tensor in _tensors(made):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._held:
                self._held[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
                self._sum += storage.nbytes()
        if self._sum > self.peak:  # those that are gone count until here
            self.peak = max(self.peak, self.now)


@dataclass
class Seen:
    """What happened on the device: waits by (what, where), bytes by where they were copied, and memory if it is watched."""

    waits: Counter = field(default_factory=Counter)
    to_device: Counter = field(default_factory=Counter)
    to_host: Counter = field(default_factory=Counter)
    memory: Memory | None = None

    def wait(self, what: str) -> None:
        self.waits[what, _where()] += 1

    def up(self, tensor: Tensor, waits: bool = True) -> None:
        """A copy to the device."""
        self.to_device[_where()] += tensor.nbytes
        if waits:
            self.wait("copy to the device")

    def down(self, tensor: Tensor) -> None:
        """A copy to the host."""
        self.to_host[_where()] += tensor.nbytes
        self.wait("copy to the host")

    def table(self) -> str:
        """Waits, line by line, the most frequent first."""
        return "\n".join(f"{n:6} {where} {what}" for (what, where), n in self.waits.most_common())


class _Current:
    """What the running ``pretended_cuda`` sees; threads share it."""

    seen = Seen()


class Far(Tensor):
    """A tensor that is said to lie on the device."""

    @classmethod
    def __torch_function__(
        cls, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return _call(func, args, dict(kwargs or {}))

    def __reduce_ex__(self, protocol: Any) -> Any:
        """In a file, a tensor."""
        with torch._C.DisableTorchFunctionSubclass():
            return self.as_subclass(Tensor).__reduce_ex__(protocol)


class _Functions(TorchFunctionMode):
    """For calls without a tensor of the device: ``torch.zeros(3, device="cuda")``, ``tensor.to("cuda")``."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return _call(func, args, dict(kwargs or {}))


class _Operations(TorchDispatchMode):
    """The operations that a function on the device consists of."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        base = name.removesuffix("_out")
        if base in WAITING:
            _Current.seen.wait("item" if base == "_local_scalar_dense" else base)
        elif base == "repeat_interleave" and kwargs.get("output_size") is None:
            _Current.seen.wait(base)
        elif base in ("index", "index_put_", "index_put", "_index_put_impl_"):
            _look_at_mask(base, args)
        elif base in PRODUCTS and not (args[0].is_floating_point() or args[0].is_complex()):
            raise RuntimeError(f'"{base}_cuda" not implemented for {args[0].dtype}')
        made = func(*args, **kwargs)
        if _Current.seen.memory is not None:
            _Current.seen.memory.see(made)
        return made


def _look_at_mask(name: str, args: tuple) -> None:
    masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
    if not masks:
        return
    # torch fills where there is one mask and one number, and need not know how many places there are
    if name != "index" and len(masks) == len(args[1]) and args[2].numel() == 1:
        return
    _Current.seen.wait(f"{name.strip('_')} by a mask")


def _where() -> str:
    """The innermost line of the package."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith(PACKAGE):
            return f"{frame.f_code.co_filename.removeprefix(PACKAGE)}:{frame.f_lineno}"
        frame = frame.f_back
    return "outside of the package"


def _far(value: Any) -> Any:
    """All tensors in ``value`` as tensors of the device, sharing memory."""
    if type(value) is Tensor:
        return value.as_subclass(Far)
    if isinstance(value, tuple | list | dict):
        return tree_map_only(Tensor, _far, value)
    return value


def _is_far(value: Any) -> bool:
    return isinstance(value, Far)


def _tensors(*values: Any) -> Iterator[Tensor]:
    """The tensors in arguments."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(*value)
        elif isinstance(value, dict):
            yield from _tensors(*value.values())


def _call(func: Callable, args: tuple, kwargs: dict) -> Any:
    """A function of torch, as the machine with the device would run it."""
    if func in (GET_DEVICE, GET_IS_CUDA, GET_IS_CPU):
        if _is_far(args[0]):
            return {GET_DEVICE: CUDA, GET_IS_CUDA: True, GET_IS_CPU: False}[func]
        return func(*args)
    with torch._C.DisableTorchFunctionSubclass():
        if func in MOVES:
            return MOVES[func](*args, **kwargs)
        place = kwargs.get("device")
        place = None if place is None else torch.device(place)
        if place is not None and place.type == "cuda":
            kwargs["device"] = CPU
            kwargs.pop("pin_memory", None)
        tensors = list(_tensors(*args, *kwargs.values()))
        on_device = any(map(_is_far, tensors))
        if on_device or (place is not None and place.type == "cuda"):
            _refuse(func, args, kwargs, tensors)
        if not on_device:
            made = func(*args, **kwargs)
            if place is None or place.type != "cuda":
                return made
            if func in DATA:  # made on the host from what Python holds
                _Current.seen.up(made)
            if _Current.seen.memory is not None:
                _Current.seen.memory.see(made)
            return _far(made)
        _copies(func, args)
        with _Operations():
            out = func(*args, **kwargs)
        if place is not None and place.type == "cpu":
            return out
        if func in (Tensor.copy_, Tensor.__setitem__) and not _is_far(args[0]):
            return out
        return _far(out)


def _refuse(func: Callable, args: tuple, kwargs: dict, tensors: list[Tensor]) -> None:
    """What a CUDA device refuses."""
    name = getattr(func, "__name__", str(func))
    if name in ("numpy", "__array__"):
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
        )
    if kwargs.get("generator") is not None and kwargs["generator"].device.type == "cpu":
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    if name in ("__getitem__", "__setitem__") and not _is_far(args[0]):
        if any(map(_is_far, _tensors(args[1]))):
            raise RuntimeError(
                "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
            )
    # a single number of the host may meet tensors of the device, not the other way round
    near = [t for t in tensors if not _is_far(t) and t.dim()]
    far = [t for t in tensors if _is_far(t)]
    if near and far and name not in COPIES:
        shapes = [tuple(t.shape) for t in far], [tuple(t.shape) for t in near]
        raise RuntimeError(
            f"{name}: Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! {shapes}"
        )


def _copies(func: Callable, args: tuple) -> None:
    """Count what functions copy by themselves between host and device."""
    seen = _Current.seen
    if func is Tensor.copy_:
        if _is_far(args[0]) and not _is_far(args[1]):
            seen.up(args[1])
        elif not _is_far(args[0]):
            seen.down(args[1])
    elif func in (Tensor.__getitem__, Tensor.__setitem__, Tensor.index_put_):
        if not _is_far(args[0]):
            if _is_far(args[2]):
                seen.down(args[2])
            return
        for index in args[1] if isinstance(args[1], tuple) else (args[1],):
            if isinstance(index, list):
                index = torch.tensor(index)
            if isinstance(index, Tensor) and not _is_far(index) and index.dim():
                seen.up(index)
        if func is not Tensor.__getitem__ and isinstance(args[2], Tensor):
            if not _is_far(args[2]) and args[2].dim():
                seen.up(args[2])
    elif func is Tensor.new_tensor:
        seen.up(torch.as_tensor(args[1]))


def _to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    copy = kwargs.pop("copy", False)
    other = kwargs.pop("other", next((a for a in args if isinstance(a, Tensor)), None))
    if other is not None:
        kwargs = {**kwargs, "device": CUDA if _is_far(other) else CPU, "dtype": other.dtype}
        args = tuple(a for a in args if not isinstance(a, Tensor))
        return _move(tensor, kwargs["device"], kwargs["dtype"], False, copy)
    device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
    return _move(tensor, device, dtype, non_blocking, copy)


def _move(
    tensor: Tensor,
    device: torch.device | None,
    dtype: torch.dtype | None = None,
    non_blocking: bool = False,
    copy: bool = False,
) -> Tensor:
    """A tensor on a device, in a type."""
    was = _is_far(tensor)
    wanted = was if device is None else device.type == "cuda"
    if was == wanted and not copy and dtype in (None, tensor.dtype):
        return tensor
    moved = tensor.clone() if dtype in (None, tensor.dtype) else tensor.to(dtype)
    if wanted and not was:
        _Current.seen.up(tensor, waits=not (non_blocking and hasattr(tensor, "pinned")))
        if _Current.seen.memory is not None:
            _Current.seen.memory.see(moved)
    elif was and not wanted:
        _Current.seen.down(tensor)
    return moved.as_subclass(Far if wanted else Tensor)


def _pin(tensor: Tensor, *_: Any) -> Tensor:
    """Memory that the device can read by itself, so that the host need not wait."""
    if _is_far(tensor):
        raise RuntimeError(
            "cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned"
        )
    pinned = tensor.clone()
    pinned.pinned = True
    return pinned


def _read(tensor: Tensor) -> Any:
    if _is_far(tensor):
        _Current.seen.wait("tolist")
        tensor = tensor.as_subclass(Tensor)
    return tensor.tolist()


DATA = {torch.tensor, torch.as_tensor, torch.from_numpy}
MOVES: dict = {
    Tensor.to: _to,
    Tensor.cpu: lambda t, *_: _move(t, CPU),
    Tensor.cuda: lambda t, *_, non_blocking=False: _move(t, CUDA, None, non_blocking),
    Tensor.type_as: lambda t, other: _move(t, CUDA if _is_far(other) else CPU, other.dtype),
    Tensor.pin_memory: _pin,
    Tensor.is_pinned: lambda t, *_: hasattr(t, "pinned"),
    Tensor.tolist: _read,
}


class _Event:
    """A mark in the device's queue."""

    def __init__(self, **_: Any) -> None:
        self.at, self.after = 0.0, -1

    def record(self, *_: Any) -> None:
        self.at, self.after = time.perf_counter(), _Current.seen.waits.total()

    def elapsed_time(self, end: _Event) -> float:
        return 1e3 * (end.at - self.at)

    def synchronize(self) -> None:
        """A wait unless there was one since, which left nothing in the queue before it."""
        if self.after == _Current.seen.waits.total():
            _Current.seen.wait("synchronize")

    def query(self) -> bool:
        return True


class _Stream:
    """A queue of the device; as a context, nothing."""

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, _: str) -> Callable:
        return lambda *a, **k: self


class _Properties:
    name, major, minor, multi_processor_count, total_memory = "pretended", 9, 0, 1, MEMORY


def _told() -> dict[str, Any]:
    """What ``torch.cuda`` answers."""
    numbers = dict(device_count=1, current_device=0, memory_reserved=0, memory_allocated=0)
    numbers |= dict(max_memory_allocated=0, is_available=True, is_initialized=True)
    numbers |= dict(is_bf16_supported=True, mem_get_info=(MEMORY, MEMORY), memory_stats={})
    numbers |= dict(get_device_properties=_Properties, get_device_name=_Properties.name)
    numbers |= dict(get_device_capability=(9, 0), set_device=None, empty_cache=None)
    numbers |= dict(reset_peak_memory_stats=None, current_stream=_Stream(), stream=_Stream())
    told = {name: lambda *a, value=value, **k: value for name, value in numbers.items()}
    told["synchronize"] = lambda *a: _Current.seen.wait("synchronize")
    return told | {"Event": _Event, "Stream": _Stream}


@contextlib.contextmanager
def pretended_cuda(watch_memory: bool = False) -> Iterator[Seen]:
    """A CUDA device for the time of a block, in threads too that start in it; ``Seen`` counts."""
    run = threading.Thread.run

    def run_on_device(thread: threading.Thread) -> None:
        with _Functions():
            run(thread)

    _Current.seen = Seen(memory=Memory() if watch_memory else None)
    with contextlib.ExitStack() as stack:
        for name, answer in _told().items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        accelerator = dict(is_available=lambda: True, current_accelerator=lambda *a, **k: CUDA)
        for name, answer in accelerator.items():
            stack.enter_context(mock.patch.object(torch.accelerator, name, answer))
        stack.enter_context(mock.patch.object(threading.Thread, "run", run_on_device))
        stack.enter_context(_Functions())
        yield _Current.seen
