"""Makes the compressed model types known to transformers' Auto classes, without importing transformers to do so.

Planning a run imports this package and must not wait seconds for torch; and the model classes can't be imported while
transformers is still importing itself. So they are registered when one of their model types is first asked for.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from impact.architectures import ARCHITECTURES

MODEL_TYPES = tuple(architecture.compressed_type for architecture in ARCHITECTURES.values())
_AUTO = "transformers.models.auto.configuration_auto"


def register() -> None:
    """Takes effect now where transformers' mapping of configurations is imported, and otherwise as soon as it is."""
    loaded = sys.modules.get(_AUTO)
    if hasattr(loaded, "CONFIG_MAPPING"):
        _extend(loaded)
    elif not any(isinstance(finder, _Watch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch())


def _extend(configuration_auto: Any) -> None:
    mapping = configuration_auto.CONFIG_MAPPING
    if not isinstance(mapping._extra_content, _OnDemand):
        mapping._extra_content = _OnDemand(mapping._extra_content)


class _OnDemand(dict[str, Any]):
    """What was registered with transformers, and our model types from the first look for one of them on."""

    def __contains__(self, model_type: object) -> bool:
        if model_type in MODEL_TYPES and not super().__contains__(model_type):
            _register()
        return super().__contains__(model_type)


def _register() -> None:
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    from impact.modeling_impact import classes

    for config, base, causal in map(classes, ARCHITECTURES):
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModel.register(config, base, exist_ok=True)
        AutoModelForCausalLM.register(config, causal, exist_ok=True)


class _Watch(MetaPathFinder):
    """Waits for one module and steps aside."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _AUTO:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenExtend(spec.loader)
        return spec


class _ThenExtend(Loader):
    """A module's own loader, and the extension after it."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        _extend(module)
