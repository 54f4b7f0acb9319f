"""From a dense model to a compressed one, in memory."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from torch import Tensor, nn

from impact.calibration import Gathered
from impact.interface import Components, Kept, Method, Statistics
from impact.modeling_impact import adopt_heads
from impact.rank_rule import RankRule


def untie_embeddings(model: nn.Module) -> bool:
    """Gives lm_head a weight of its own where it shares the embedding's, since only lm_head is compressed.

    Returns whether the two were tied.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()  # type: ignore[operator]
    tied = head is not None and head.weight is embedding.weight
    if tied:
        head.weight = nn.Parameter(embedding.weight.detach().clone())
    model.config.tie_word_embeddings = False  # type: ignore[union-attr]
    return tied


def untie_compressed_head(method: Method, model: nn.Module) -> None:
    """Unties the embeddings where the method compresses lm_head; for a method that leaves it alone they stay tied."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    if any(model.get_submodule(name) is head for unit in method.units(model) for name in unit.modules):
        untie_embeddings(model)


def by_module(gathered: Iterable[Gathered]) -> dict[str, dict[str, Tensor]]:
    """Statistics, each of which has its tensors by module, together: module -> tensor name -> tensor."""
    merged: dict[str, dict[str, Tensor]] = {}
    for statistic in gathered:
        for module, tensors in statistic.items():
            merged.setdefault(module, {}).update(tensors)
    return merged


def prepare_units(
    method: Method, model: nn.Module, statistics: Mapping[str, Statistics], rules: Sequence[RankRule] = ()
) -> Iterator[tuple[str, Components]]:
    """Yields (unit name, components) in the model's order, one at a time, so that a caller can store them.

    statistics: module name -> its tensors. rules: all that will be asked for; without any, components are at full rank.
    Raises ValueError naming the unit if its statistics are unusable.
    """
    for unit in method.units(model):
        try:
            modules = _linears(model, unit.modules)
            components = method.prepare(unit, modules, statistics.get(unit.name, {}), rules)
            yield unit.name, method.cap(components, rules) if rules else components
        except ValueError as error:
            raise ValueError(f"{unit.name}: {error}") from error


def compress(
    model: nn.Module,
    method: Method,
    components: Mapping[str, Components],
    kept: Mapping[str, Kept],
    statistics: Mapping[str, Statistics],
) -> None:
    """Replaces, in place, every unit that does not stay dense."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    for unit in method.units(model):
        if kept[unit.name] is None:
            continue
        replacements = method.realise(
            _linears(model, unit.modules), components[unit.name], kept[unit.name], statistics.get(unit.name, {})
        )
        for name, module in zip(unit.modules, replacements, strict=True):
            model.set_submodule(name, module)
    adopt_heads(model)
    if model.get_output_embeddings() is not head:  # type: ignore[operator]
        model.config.tie_word_embeddings = False  # type: ignore[union-attr]  # no weight is left to tie


def parameter_count(model: nn.Module) -> int:
    """Every parameter, embeddings, norms and biases included, shared ones once: the paper's model size."""
    return sum(p.numel() for p in model.parameters())


def _linears(model: nn.Module, names: tuple[str, ...]) -> list[nn.Linear]:
    modules = [model.get_submodule(name) for name in names]
    for name, module in zip(names, modules, strict=True):
        if not isinstance(module, nn.Linear):
            raise ValueError(
                f"{name} is a {type(module).__name__}, not a dense Linear: is the model compressed already?"
            )
    return modules  # type: ignore[return-value]
