"""A GPU that is not there: its tensors say that they lie on `cuda`, and are computed on the CPU.

What a GPU refuses is refused: an operation of tensors on both devices. What makes the host wait for a GPU is counted.
So the code runs as it does there, but for the kernels and `torch.compile`.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

GPU = torch.device("cuda", 0)
MIXES = {"aten.copy_.default", "aten._to_copy.default", "aten.index.Tensor", "aten.index_put_.default"}
"""Operations that may read tensors on both devices."""
WAITS = {"aten._local_scalar_dense.default", "aten.nonzero.default", "aten._unique2.default", "aten.equal.default"}
"""Operations whose result, or its shape, the host has to know."""

LOWERED = {"conv2d", "linear", "matmul", "__matmul__", "mm", "bmm", "addmm", "baddbmm", "scaled_dot_product_attention"}
RAISED = {"layer_norm", "softmax", "log_softmax", "cross_entropy", "sum", "prod", "cumsum", "norm", "exp", "log", "pow"}
WIDEST = {"addcmul", "cat", "stack"}
"""What autocast on CUDA computes in bf16, in float32, and in the widest format of its arguments (torch.amp's docs)."""


class OnGPU(torch.Tensor):
    """A tensor with its values in `on_host`."""

    on_host: Tensor

    @staticmethod
    def __new__(cls, on_host: Tensor) -> OnGPU:
        # To torch itself it is a tensor without values, which needs no driver.
        made = torch.Tensor._make_wrapper_subclass(
            cls, on_host.size(), on_host.stride(), on_host.storage_offset(), dtype=on_host.dtype, device="meta"
        )
        made.on_host = on_host
        return made

    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_cpu = is_meta = property(lambda self: False)

    def __repr__(self, **options: object) -> str:
        return f"OnGPU({self.on_host})"

    def __deepcopy__(self, memo: dict[int, Any]) -> OnGPU:
        copied = OnGPU(self.on_host.detach().clone()).requires_grad_(self.requires_grad)
        copied._is_param = getattr(self, "_is_param", False)
        memo[id(self)] = copied
        return copied

    def __reduce_ex__(self, protocol: int) -> Any:
        return self.on_host.detach().__reduce_ex__(protocol)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.is_autocast_enabled("cuda"):
            args, kwargs = as_autocast(func.__name__, args, kwargs or {})
        if func is torch.where:  # torch would make a tensor of a number, on the device without values
            like = next(each for each in args[1:] if isinstance(each, Tensor))
            args = [each if isinstance(each, Tensor) else torch.tensor(each, dtype=like.dtype) for each in args]
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} of a tensor on a GPU that is gone")


def as_autocast(name: str, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments of a function in the formats that autocast chooses on CUDA."""
    if name not in LOWERED | RAISED | WIDEST:
        return args, kwargs
    floats = {leaf.dtype for leaf in tree_flatten((args, kwargs))[0] if is_float_there(leaf)}
    if torch.float64 in floats:
        return args, kwargs
    wide = name in RAISED or (name in WIDEST and torch.float32 in floats)

    def cast(leaf: Any) -> Any:
        return leaf.to(torch.float32 if wide else torch.bfloat16) if is_float_there(leaf) else leaf

    return tree_map(cast, args), tree_map(cast, kwargs)


def is_float_there(leaf: object) -> bool:
    return isinstance(leaf, OnGPU) and leaf.is_floating_point()


class PretendGPU(TorchDispatchMode):
    """Carries out what concerns the GPU.

    Attributes:
        waits: operations that make the host wait for a GPU, and how often.
        launches: operations that a GPU is asked for; views are none.
        refuses_to_wait: torch's mode for debugging; 2 raises.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()
        self.recorded: list[Operation] | None = None
        self.refuses_to_wait = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), str(func)
        flat, shape = tree_flatten((args, kwargs))
        asked = None if kwargs.get("device") is None else torch.device(kwargs["device"]).type
        there = [leaf for leaf in flat if isinstance(leaf, OnGPU)]
        if not there and asked != "cuda":
            return func(*args, **kwargs)
        if name == "aten._fused_sdp_choice.default":
            return 0  # attention is written out
        if name == "aten.where.self":  # its backward pass makes a zero, on the device without values
            flat = [torch.zeros((), dtype=x.dtype) if isinstance(x, Tensor) and x.is_meta else x for x in flat]
        here = [leaf for leaf in flat if isinstance(leaf, Tensor) and not isinstance(leaf, OnGPU)]
        assert not any(leaf.is_meta for leaf in here), f"{name} of a tensor without values"
        if there and name not in MIXES and any(leaf.ndim for leaf in here):
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, but found cuda:0 and cpu")
        to_host = asked == "cpu"
        if to_host or name in WAITS or (name == "aten.copy_.default" and not isinstance(args[0], OnGPU)):
            self.waits[name] += 1
            if self.refuses_to_wait:
                raise RuntimeError("called a synchronizing CUDA operation")
        self.launches[name] += not is_view(func)
        if self.recorded is not None and (to_host or name in WAITS or any(leaf.ndim for leaf in here)):
            raise RuntimeError(f"{name}: operation not permitted when stream is capturing")
        args, kwargs = tree_unflatten([leaf.on_host if isinstance(leaf, OnGPU) else leaf for leaf in flat], shape)
        kwargs |= {} if asked is None else {"device": torch.device("cpu")}
        found = func(*args, **kwargs)
        if to_host:
            return found
        if self.recorded is not None and not is_view(func):
            self.recorded.append((func, args, kwargs, found))
        known = {id(leaf.on_host): leaf for leaf in there} | {id(leaf): leaf for leaf in here}

        def back(value: object) -> object:
            if not isinstance(value, Tensor):
                return value
            return known[id(value)] if id(value) in known else OnGPU(value)

        return tree_map(back, found)


Operation = tuple[Any, Any, Any, Any]
"""A function, its arguments and what it returned, on the host."""


def is_view(func: Any) -> bool:
    return any(argument.alias_info and not argument.alias_info.is_write for argument in func._schema.arguments)


class Graph:
    """A CUDA graph: operations that are recorded, not carried out, and replayed on the same memory."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def pool(self) -> object:
        return self

    def replay(self) -> None:
        for func, args, kwargs, before in self.operations:
            for old, new in zip(*(tree_flatten(each)[0] for each in (before, func(*args, **kwargs))), strict=True):
                if isinstance(old, Tensor) and old is not new:
                    old.copy_(new)


class OnHost(torch.Generator):
    """A generator on the CPU, whatever device it is asked for."""

    def __new__(cls, device: object = "cpu") -> OnHost:
        return super().__new__(cls, "cpu")


def without_gradients(self: Any) -> None:
    self.before = torch.no_grad()
    self.before.__enter__()


def with_gradients_again(self: Any, *error: object) -> None:
    self.before.__exit__(*error)


@contextlib.contextmanager
def pretend_gpu() -> Iterator[PretendGPU]:
    """Within it torch has one GPU. Not for machines that have one."""
    torch._C._ensureCUDADeviceGuardSet()  # torch asks no driver which device is the current one
    cuda = {
        "is_available": lambda: True,
        "is_bf16_supported": lambda: True,
        "is_current_stream_capturing": lambda: False,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda device=None: "pretended",
        "mem_get_info": lambda device=None: (2**36, 2**36),
        "manual_seed_all": lambda seed: None,
        "synchronize": lambda device=None: None,
        "_lazy_init": lambda: None,
        "current_stream": lambda device=None: mock.Mock(),
        "Stream": lambda device=None: mock.Mock(),
        "stream": lambda stream: contextlib.nullcontext(),
        "CUDAGraph": Graph,
    }
    with contextlib.ExitStack() as stack:
        for name, value in cuda.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        stack.enter_context(mock.patch.object(torch, "Generator", OnHost))
        stack.enter_context(mock.patch.object(torch, "compile", lambda network, **options: network))
        stack.enter_context(mock.patch.object(Tensor, "pin_memory", lambda self, device=None: self))
        # Views of such tensors cannot be inference tensors.
        stack.enter_context(mock.patch.object(torch.inference_mode, "__enter__", without_gradients))
        stack.enter_context(mock.patch.object(torch.inference_mode, "__exit__", with_gradients_again))
        stack.enter_context(mock.patch("nodelens.data.draws.Draws.device", GPU))
        gpu = PretendGPU()

        def refuse(mode: str | int) -> None:
            gpu.refuses_to_wait = {"default": 0, "error": 2}.get(mode, mode)  # type: ignore[call-overload]

        def refuses() -> int:
            return gpu.refuses_to_wait

        stack.enter_context(mock.patch.object(torch.cuda, "set_sync_debug_mode", refuse))
        stack.enter_context(mock.patch.object(torch.cuda, "get_sync_debug_mode", refuses))

        @contextlib.contextmanager
        def recording(graph: Graph, **options: object) -> Iterator[None]:
            gpu.recorded = graph.operations
            try:
                yield
            finally:
                gpu.recorded = None
            for *_, found in graph.operations:
                for made in tree_flatten(found)[0]:
                    if isinstance(made, Tensor) and made.is_floating_point():
                        made.fill_(torch.nan)  # nothing was computed yet

        stack.enter_context(mock.patch.object(torch.cuda, "graph", recording))
        yield stack.enter_context(gpu)
