"""How much memory the tensors of a computation take at most, counted as they come and go."""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakIdKeyDictionary


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that are made while it is active: `live` of those still alive, `peak` at most.

    What was there before doesn't count, nor does what a kernel needs inside. On the meta device, where nothing is
    stored or computed, it counts what the same computation would take.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        # what comes in unknown was made before; marked, or a view of it would be taken for a new tensor
        tree_map_only(Tensor, self._meet, (args, kwargs))
        result = func(*args, **kwargs)
        tree_map_only(Tensor, self._count, result)
        return result

    def _meet(self, tensor: Tensor) -> None:
        self._known.setdefault(tensor.untyped_storage(), True)

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        self._known[storage] = True
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, size).atexit = False

    def _forget(self, size: int) -> None:
        self.live -= size


def bytes_of(*tensors: Tensor) -> int:
    """What the tensors' elements take, each tensor object counted once."""
    return sum(t.numel() * t.element_size() for t in {id(t): t for t in tensors}.values())
