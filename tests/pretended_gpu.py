"""A pretended GPU: run code that was written for CUDA where there is none, and see what a GPU would refuse or wait for.

A `Gpu` tensor says ``device == cuda:0`` to Python and holds an ordinary CPU tensor (or, for counting at full size, a
meta tensor without numbers). Every ATen call on one passes `Gpu.__torch_dispatch__`, which

- refuses what CUDA refuses: a CPU tensor with dimensions beside a GPU one, ``.numpy()`` of a GPU tensor;
- notes what makes the host wait: ``.item()``, ``bool()``, ``float()``, ``.tolist()``, ``.cpu()``, ``nonzero``, copies
  from memory that is not pinned, each with the line of the project that asked for it;
- notes float64 on the GPU, and counts kernels, bytes moved, and the bytes that are alive.

Asynchronous copies from and to pinned memory, and events, are no waits. Unlike FakeTensorMode(device "cuda") it has
numbers, so that control flow (when conjugate gradients end, for instance) is the real one, whole trainings run, and
their results can be compared with the CPU's. FakeTensorMode in a CPU build of torch 2.13 also aborts the process
(SIGABRT, no CUDA device guard) at the first tensor that requires a gradient.

What it cannot see: numerical differences (TF32, atomics), streams, cuDNN's and cuFFT's own refusals, real memory.
"""

from __future__ import annotations

import contextlib
import math
import sys
import traceback
from collections import Counter
from dataclasses import dataclass, field

import torch
from torch.autograd.graph import _engine_run_backward
from torch.overrides import TorchFunctionMode
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only

CUDA = torch.device("cuda", 0)
aten = torch.ops.aten
OURS = ("/recon/", "/synth/", "/pipelines/")
SYNCS = {  # the output's size or a Python number depends on the data
    aten._local_scalar_dense.default: "item",
    aten.nonzero.default: "nonzero",
    aten.masked_select.default: "masked_select",
    aten.equal.default: "equal",
    aten._unique2.default: "unique",
    aten.bincount.default: "bincount",
}
MIXED = (aten.copy_.default, aten._to_copy.default, aten.index.Tensor, aten.index_put_.default, aten.lift_fresh.default)


@dataclass
class Seen:
    """What was seen."""

    kernels: Counter = field(default_factory=Counter)
    bytes: Counter = field(default_factory=Counter)
    flops: Counter = field(default_factory=Counter)
    syncs: Counter = field(default_factory=Counter)  # (kind, place)
    uploads: Counter = field(default_factory=Counter)  # pageable host memory to the GPU: the host waits
    doubles: Counter = field(default_factory=Counter)
    refused: Counter = field(default_factory=Counter)
    refused_trace: str = ""
    live: dict = field(default_factory=dict)
    peak: int = 0

    def clear(self):
        """Forget what was seen."""
        for name, value in vars(Seen()).items():
            setattr(self, name, value)

    def total(self):
        return {
            "kernels": sum(self.kernels.values()),
            "GB": round(sum(self.bytes.values()) / 1e9, 3),
            "GFLOP": round(sum(self.flops.values()) / 1e9, 2),
            "syncs": sum(self.syncs.values()),
            "pageable uploads": sum(self.uploads.values()),
            "peak MB": round(self.peak / 1e6),
        }


SEEN = Seen()
ANSWERS = {"nonzero": 0}  # of meta tensors: how many elements a mask has


def place() -> str:
    """The innermost line of the project that is at work, and who called it."""
    frames = [f for f in traceback.extract_stack() if any(part in f.filename for part in OURS)]
    short = [f"{'/'.join(f.filename.split('/')[-2:])}:{f.lineno}" for f in frames[-2:]]
    return " < ".join(reversed(short)) or "elsewhere"


class Gpu(torch.Tensor):
    """A tensor that says it is on cuda:0."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Gpu:
        assert type(inner) is torch.Tensor, type(inner)
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device="cpu",
        )
        made._inner = inner
        if inner.is_conj():
            torch._C._set_conj(made, True)
        return made

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    __torch_function__ = torch._C._disabled_torch_function_impl

    def __tensor_flatten__(self):
        return ["_inner"], None

    @staticmethod
    def __tensor_unflatten__(inner, meta, size, stride):
        return Gpu(inner["_inner"])

    def __repr__(self):
        return f"Gpu({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        flat, _ = tree_flatten((args, kwargs))
        tensors = [t for t in flat if isinstance(t, torch.Tensor)]
        check(func, tensors)
        if func in SYNCS or (func in (aten.index.Tensor, aten.index_put_.default) and has_bool(args[1])):
            SEEN.syncs[(SYNCS.get(func, "boolean index"), place())] += 1
        meta = any(t.is_meta for t in (x._inner for x in tensors if isinstance(x, Gpu)))
        if meta and func in (aten._local_scalar_dense.default, aten.equal.default):
            dtype = tensors[0].dtype
            return True if dtype == torch.bool else 1.0 if dtype.is_floating_point else 1
        inner_args, inner_kwargs = tree_map_only(Gpu, lambda t: t._inner, (args, kwargs))
        if meta and inner_kwargs.get("device") is not None:  # C++ names the device that it sees
            inner_kwargs = {**inner_kwargs, "device": torch.device("meta")}
        if meta:  # a number of the CPU's beside tensors without numbers
            to_meta = lambda t: t.to("meta") if not t.is_meta else t  # noqa: E731
            inner_args, inner_kwargs = tree_map_only(torch.Tensor, to_meta, (inner_args, inner_kwargs))
        if meta and func is aten.nonzero.default:
            out = torch.empty((ANSWERS["nonzero"], args[0].ndim), dtype=torch.int64, device="meta")
        else:
            out = func(*inner_args, **inner_kwargs)
        wrapped = tree_map_only(torch.Tensor, lambda t: t if isinstance(t, Gpu) else Gpu(t), out)
        count(func, tensors, wrapped)
        return return_and_correct_aliasing(func, args, kwargs, wrapped)


def has_bool(indices) -> bool:
    return any(isinstance(i, torch.Tensor) and i.dtype in (torch.bool, torch.uint8) for i in indices)


def check(func, tensors) -> None:
    """Refuse what CUDA refuses."""
    host = [t for t in tensors if not isinstance(t, Gpu) and not t.is_meta]
    if not host or func in MIXED or len(host) == len(tensors):
        return
    if all(t.ndim == 0 for t in host) and (
        torch.Tag.pointwise in func.tags or "_foreach" in str(func) or "fill" in str(func)
    ):
        return
    SEEN.refused[(str(func), place())] += 1
    SEEN.refused_trace = "".join(traceback.format_stack(limit=12))
    raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu ({func}) at {place()}")


def bytes_of(t) -> int:
    return t.numel() * t.element_size()


def count(func, tensors, out) -> None:
    """Kernels, bytes and operations of a call that is no view."""
    name = str(func).removeprefix("aten.")
    outs = [t for t in tree_flatten(out)[0] if isinstance(t, Gpu)]
    if func.is_view or name.startswith(("detach", "_conj", "alias", "empty", "new_empty", "_unsafe_view", "lift")):
        keep(outs) if name.startswith(("empty", "new_empty")) else None
        return
    if name.startswith("_local_scalar_dense"):
        return
    if any(t.dtype in (torch.float64, torch.complex128) for t in outs):
        SEEN.doubles[(name, place())] += 1
    written = list(outs)
    read = [t for t in tensors if isinstance(t, Gpu)]
    n = 1
    if "_fft_c2c" in name:
        out_ = outs[0]
        SEEN.flops["fft"] += (
            5 * out_.numel() * math.log2(max(2, math.prod(out_.shape[d] for d in func_dims(tensors, func))))
        )
        n = 2 if LAST["norm"] else 1  # cuFFT, and the scaling
    if name.startswith("convolution"):
        n = 1 if not name.startswith("convolution_backward") else sum(o is not None for o in outs) or 1
    SEEN.kernels[name] += n
    SEEN.bytes[name] += sum(map(bytes_of, read)) + (
        0 if func._schema.is_mutable and not outs else sum(map(bytes_of, written))
    )
    if name.startswith(("convolution", "mm", "bmm", "addmm")):
        SEEN.flops[name.split(".")[0]] += conv_flops(name, tensors, outs)
    keep(outs)


LAST: dict = {"norm": 0, "dims": (-1,)}


def func_dims(tensors, func):
    return LAST["dims"]


def conv_flops(name, tensors, outs) -> int:
    if name.startswith("convolution_backward"):
        gradient, image, weight = tensors[:3]
        spatial = gradient.shape[2:] if not LAST.get("transposed") else image.shape[2:]
        return 2 * gradient.shape[0] * math.prod(spatial) * weight.numel() * len(outs)
    if name.startswith("convolution"):
        image, weight = tensors[:2]
        spatial = outs[0].shape[2:] if not LAST.get("transposed") else image.shape[2:]
        return 2 * image.shape[0] * math.prod(spatial) * weight.numel()
    a, b = tensors[-2:]
    return 2 * a.shape[-2] * a.shape[-1] * b.shape[-1] * (a.shape[0] if a.ndim == 3 else 1)


def keep(outs) -> None:
    """Note how many bytes are alive."""
    for t in outs:
        storage = t._inner.untyped_storage()
        key = storage._cdata
        if key not in SEEN.live or SEEN.live[key][0].expired():
            SEEN.live[key] = (torch.multiprocessing.reductions.StorageWeakRef(storage), storage.nbytes())
    if any(bytes_of(t) > 2**18 for t in outs):
        SEEN.live = {k: v for k, v in SEEN.live.items() if not v[0].expired()}
        SEEN.peak = max(SEEN.peak, sum(v[1] for v in SEEN.live.values()))


def is_cuda(device) -> bool:
    if isinstance(device, torch.Tensor):
        return isinstance(device, Gpu)
    return device is not None and not isinstance(device, (torch.dtype, bool)) and torch.device(device).type == "cuda"


def upload(t: torch.Tensor, **how) -> Gpu:
    """A copy on the GPU."""
    inner = t.detach().to(how.get("dtype") or t.dtype)
    inner = inner.clone() if inner.data_ptr() == t.data_ptr() else inner
    if not is_pinned(t) and t.numel() > 1:
        SEEN.uploads[(f"{'x'.join(map(str, t.shape))} {str(t.dtype)[6:]}", place())] += 1
    made = Gpu(inner.to(META["device"]))
    SEEN.kernels["copy host to device"] += 1
    keep([made])
    return made


PINNED: dict[int, torch.Tensor] = {}  # page-locked memory by address, kept so that no other memory takes the address


def is_pinned(t: torch.Tensor) -> bool:
    return t.untyped_storage().data_ptr() in PINNED


def pinned(t: torch.Tensor) -> torch.Tensor:
    PINNED[t.untyped_storage().data_ptr()] = t
    return t


class Event:
    """An event of a GPU that is always done."""

    record = synchronize = lambda self, *_: None
    query = lambda self: True  # noqa: E731


class _Download(torch.autograd.Function):
    @staticmethod
    def forward(ctx, t):
        return t._inner.detach().clone().resolve_conj()

    @staticmethod
    def backward(ctx, g):
        return upload(g)


class PretendedGpu(TorchFunctionMode):
    """While it is entered, "cuda" means `Gpu`."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        first = args[0] if args else None
        name = getattr(func, "__name__", "")
        on_gpu = isinstance(first, Gpu)
        if name == "_fft_c2c" or name in ("fftn", "ifftn", "fft", "ifft"):
            norm, inverse = kwargs.get("norm"), name.startswith("ifft")
            LAST["norm"] = norm == "ortho" or (norm in (None, "backward") and inverse)
            LAST["dims"] = kwargs.get("dim", (-1,)) if isinstance(kwargs.get("dim", -1), tuple) else (-1,)
        if name in ("conv_transpose2d", "conv2d"):
            LAST["transposed"] = name == "conv_transpose2d"
        if name == "backward" and on_gpu:  # a mode is off while its handler runs; the backward functions need it
            with self:
                ones = torch.ones_like(first) if kwargs.get("gradient") is None else kwargs["gradient"]
                keep = bool(kwargs.get("retain_graph"))
                return _engine_run_backward(
                    (first,), (ones,), keep, False, (), allow_unreachable=True, accumulate_grad=True
                )
        if name == "to" and isinstance(first, torch.Tensor):
            given = dict(kwargs)
            target = kwargs.pop("device", None)
            rest = list(args[1:])
            if rest and not isinstance(rest[0], (torch.dtype, bool)) and rest[0] is not None:
                target = rest.pop(0)
            if target is not None:
                dtype = target.dtype if isinstance(target, torch.Tensor) else kwargs.pop("dtype", None)
                rest_dtype = [r for r in rest if isinstance(r, torch.dtype)]
                dtype = rest_dtype[0] if rest_dtype else dtype
                kwargs.pop("non_blocking", None)
                if is_cuda(target) and not on_gpu:
                    return upload(first, dtype=dtype)
                if not is_cuda(target) and on_gpu:
                    return download(first, "to cpu").to(dtype or first.dtype)
                if on_gpu:
                    return func(first, dtype or first.dtype, **kwargs)
                return func(*args, **given)
        if name == "cuda":
            return first if on_gpu else upload(first)
        if name == "cpu" and on_gpu:
            return download(first, "cpu")
        if name == "tolist" and on_gpu:
            return download(first, "tolist").tolist()
        if name in ("numpy", "__array__") and on_gpu:
            SEEN.refused[(name, place())] += 1
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy it first.")
        if name == "__get__" and on_gpu and func in (torch.Tensor.device.__get__, torch.Tensor.is_cuda.__get__):
            return CUDA if func == torch.Tensor.device.__get__ else True
        if name == "is_pinned":
            return is_pinned(first)
        if name == "copy_" and not on_gpu and len(args) > 1 and isinstance(args[1], Gpu):
            if not (kwargs.get("non_blocking") and is_pinned(first)):
                SEEN.syncs[("copy to host", place())] += 1
            SEEN.kernels["copy device to host"] += 1
            if not args[1]._inner.is_meta:
                first.copy_(args[1]._inner)
            return first
        if "device" in kwargs and is_cuda(kwargs["device"]):
            kwargs["device"] = None
            if name == "as_tensor" and on_gpu:
                return first.to(kwargs.get("dtype") or first.dtype)
            with torch._C.DisableTorchFunction():
                made = func(*args, **kwargs)
            if isinstance(made, Gpu):
                return made
            if name in ("tensor", "as_tensor"):
                return upload(made)
            SEEN.kernels[name] += 1  # made on the GPU
            return Gpu(made.to(META["device"])) if not made.requires_grad else Gpu(made.detach()).requires_grad_()
        return func(*args, **kwargs)


META = {"device": "cpu"}


def download(t: Gpu, what: str) -> torch.Tensor:
    SEEN.syncs[(what, place())] += 1
    if t._inner.is_meta:
        return torch.zeros(t.shape, dtype=t.dtype)
    return (
        _Download.apply(t) if t.requires_grad and torch.is_grad_enabled() else t._inner.detach().clone().resolve_conj()
    )


@contextlib.contextmanager
def pretended_gpu(*, without_numbers: bool = False):
    """Everything that asks for a GPU finds one; yields what is `Seen`."""
    SEEN.clear()
    META["device"] = "meta" if without_numbers else "cpu"
    kept = {}

    def patch(owner, name, value):
        kept[(owner, name)] = getattr(owner, name)
        setattr(owner, name, value)

    def pin(t, *_):
        return pinned(t.clone())

    real_empty = torch.empty

    def empty(*args, pin_memory=False, **kwargs):  # also in threads, which the mode does not reach
        made = real_empty(*args, **kwargs)
        return pinned(made) if pin_memory else made

    real_autocast = torch.autocast

    def autocast(device_type, *args, **kwargs):
        return real_autocast("cpu" if device_type == "cuda" else device_type, *args, **kwargs)

    patch(torch.cuda, "is_available", lambda: True)
    patch(torch.cuda, "device_count", lambda: 1)
    patch(torch.cuda, "set_device", lambda d: None)
    patch(torch.cuda, "get_device_name", lambda d=None: "pretended")
    patch(torch.cuda, "get_rng_state", lambda *a: torch.zeros(16, dtype=torch.uint8))
    patch(torch.cuda, "manual_seed_all", lambda *a: None)
    patch(torch.Tensor, "pin_memory", pin)
    patch(torch.Tensor, "is_pinned", is_pinned)
    patch(torch, "empty", empty)
    patch(torch.cuda, "Event", Event)
    patch(torch, "autocast", autocast)
    patch(_foreach_utils, "_get_foreach_kernels_supported_devices", lambda: ["cuda", "cpu"])
    _foreach_utils._foreach_supported_types.append(Gpu)
    real_to = torch.nn.Module.to
    for owner in (torch.nn.utils.clip_grad, sys.modules["torch.optim.optimizer"]):
        grouped = owner._group_tensors_by_device_and_dtype

        def group(lists, with_indices=False, grouped=grouped):
            made = grouped(lists, with_indices)
            of_gpu = any(isinstance(t, Gpu) for t in lists[0])
            return {(CUDA if of_gpu else device, dtype): value for (device, dtype), value in made.items()}

        patch(owner, "_group_tensors_by_device_and_dtype", group)

    def module_to(self, *args, **kwargs):
        if (args and is_cuda(args[0])) or is_cuda(kwargs.get("device")):
            for module in self.modules():
                for owner in (module._parameters, module._buffers):
                    for name, t in owner.items():
                        if t is not None and not isinstance(t, Gpu):
                            moved = Gpu(t.detach().clone().to(META["device"]))
                            keep([moved])
                            owner[name] = (
                                torch.nn.Parameter(moved, t.requires_grad) if owner is module._parameters else moved
                            )
            return self
        return real_to(self, *args, **kwargs)

    patch(torch.nn.Module, "to", module_to)
    try:
        with PretendedGpu():
            yield SEEN
    finally:
        _foreach_utils._foreach_supported_types.remove(Gpu)
        for (owner, name), value in kept.items():
            setattr(owner, name, value)
