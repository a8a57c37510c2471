"""Torchvision classifiers, cut wherever exactly one tensor passes from one block to the next.

No architecture is written down here either. `torch.fx` traces the model with whole blocks as leaves (a residual block,
a transformer block, a convolution outside any block); the places where one tensor alone crosses are where it may be
cut. Blocks then take what belongs to them: a norm after a bare layer goes with that layer (a ResNet's stem), a norm
after a block goes with what follows (a transformer's final norm goes with its head).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn

from frostline_trainer.contract import ModelSpec
from frostline_trainer.data.shape import DataShape
from frostline_trainer.errors import StudyFault
from frostline_trainer.models.cut import ChainNetwork
from frostline_trainer.models.weights import load_for_new_classes
from frostline_trainer.seeds import derive


def build_vision(model: ModelSpec, shape: DataShape, seed: int, *, weights: bool = True) -> ChainNetwork:
    """A torchvision builder's network for the data's classes.

    Raises:
        StudyFault: unknown builder, arguments it rejects, or a network that cannot be cut.
    """
    if shape.kind != "Images":
        raise StudyFault(f"data.kind: a Vision model takes Images, not {shape.kind}; set data.kind: Images")
    assert model.name is not None
    builder, arguments = _builder(model.name), builder_arguments(model, shape)
    torch.manual_seed(derive(seed, "weights"))
    try:
        built: nn.Module = builder(weights=None, **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise StudyFault(f"model.config: torchvision's {model.name} rejects these arguments: {error}") from error
    units = cut(built, model.name)
    if model.pretrained and weights:
        load_for_new_classes(built, model.pretrained, [unit for _, unit in units])
    return ChainNetwork(units)


def builder_arguments(model: ModelSpec, shape: DataShape) -> dict[str, Any]:
    """What torchvision's builder is called with, besides that it loads no weights."""
    assert model.name is not None
    builder = _builder(model.name)
    arguments = {"num_classes": shape.classes, **model.config}
    if "image_size" in inspect.signature(builder).parameters or model.name.startswith("vit_"):
        arguments.setdefault("image_size", shape.input[-1])
    return arguments


def _builder(name: str) -> Any:
    from torchvision import models

    builders = models.list_models(module=models)
    if name not in builders:
        import difflib

        near = difflib.get_close_matches(name, builders, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(builders)}"
        raise StudyFault(f"model.name: torchvision has no classifier {name!r}; {hint}")
    return models.get_model_builder(name)


def cut(model: nn.Module, name: str = "model") -> list[tuple[str, nn.Module]]:
    """The model as a chain of named units.

    Works for any traceable module with one tensor in and one out.

    Raises:
        StudyFault: it cannot be traced, or no place is crossed by one tensor alone.
    """
    training = model.training
    model.eval()  # so that branches for auxiliary classifiers are not taken
    try:
        graph = _BlockTracer(model).trace(model)
    except Exception as error:
        raise StudyFault(f"model.name: {name} cannot be traced by torch.fx: {error}") from error
    model.train(training)
    segments = _segments(graph, model)
    units = _units(segments)
    if len(units) < 2:
        raise StudyFault(
            f"model.name: {name} has no place where one tensor alone passes, so it cannot be frozen in part"
        )
    return [(_name(segment), _extract(model, segment)) for segment in units]


class _BlockTracer(fx.Tracer):
    """Descends into containers only, so that blocks stay whole and keep their own `training` behaviour."""

    def __init__(self, root: nn.Module):
        super().__init__()
        self._containers = {id(root), *(id(m) for m in root.modules() if _is_container(m))}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return id(m) not in self._containers


def _is_container(module: nn.Module) -> bool:
    """A plain chain of modules, or a module that holds a stack of like blocks (a transformer's encoder)."""
    if isinstance(module, nn.Sequential):
        return type(module).forward is nn.Sequential.forward
    stacks = [c for c in module.children() if _is_stack(c)]
    others = [c for c in module.children() if c not in stacks]
    return len(stacks) == 1 and all(p.ndim < 2 for c in others for p in c.parameters())


def _is_stack(module: nn.Module) -> bool:
    """Several blocks of one kind, none of them a mere layer."""
    if not isinstance(module, nn.Sequential | nn.ModuleList) or len(module) < 2:
        return False
    kinds = {type(block) for block in module}
    kind = next(iter(kinds))
    return len(kinds) == 1 and not issubclass(kind, nn.Sequential) and not kind.__module__.startswith("torch.nn")


class _Segment:
    """Nodes between two places where the model may be cut."""

    def __init__(self, nodes: list[fx.Node], model: nn.Module):
        self.nodes = nodes
        self.targets = [str(n.target) for n in nodes if n.op == "call_module"]
        modules = [model.get_submodule(t) for t in self.targets]
        # A weight proper is a matrix or a kernel; norms have vectors only.
        self.weighty = any(p.ndim > 1 for m in modules for p in m.parameters())
        self.has_parameters = any(True for m in modules for _ in m.parameters()) or any(
            n.op == "get_attr" for n in nodes
        )
        self.bare = all(not list(m.children()) for m in modules)  # single layers, no block

    def __iadd__(self, other: _Segment) -> _Segment:
        self.nodes += other.nodes
        self.targets += other.targets
        self.weighty |= other.weighty
        return self


def _segments(graph: fx.Graph, model: nn.Module) -> list[_Segment]:
    """The graph cut wherever exactly one value is made before and used after (weights do not count)."""
    nodes = [n for n in graph.nodes if n.op not in ("placeholder", "output", "get_attr")]
    output = next(n for n in graph.nodes if n.op == "output")
    place = {node: i for i, node in enumerate(nodes)}
    last_use = {n: max((place.get(u, len(nodes)) for u in n.users), default=-1) for n in graph.nodes}
    inputs = [n for n in graph.nodes if n.op == "placeholder" and n.users]
    assert len(inputs) == 1 and isinstance(output.args[0], fx.Node)
    segments: list[_Segment] = []
    begin = 0
    live = set(inputs)
    for i, node in enumerate(nodes):
        live.add(node)
        live = {n for n in live if last_use[n] > i}
        if live == {node}:
            piece = nodes[begin : i + 1]
            weights = {a: None for n in piece for a in n.all_input_nodes if a.op == "get_attr"}
            segments.append(_Segment([*weights, *piece], model))
            begin = i + 1
    return segments


def _units(segments: list[_Segment]) -> list[_Segment]:
    """Segments joined so that each unit has weights proper; see the module's text for who joins whom."""
    units: list[_Segment] = []
    pending: _Segment | None = None  # waits for the next weighty segment
    for segment in segments:
        if pending is not None:
            pending += segment
            if pending.weighty:
                units.append(pending)
                pending = None
        elif segment.weighty or not units:
            if segment.weighty:
                units.append(segment)
            else:
                pending = segment
        elif segment.has_parameters and not units[-1].bare:
            pending = segment
        else:
            units[-1] += segment
    if pending is not None:
        if not units:
            return [pending]
        units[-1] += pending
    return units


def _name(segment: _Segment) -> str:
    return next((t for t in segment.targets), str(segment.nodes[0].name))


def _extract(model: nn.Module, segment: _Segment) -> nn.Module:
    """A module of its own for these nodes; it shares the model's submodules."""
    inside = set(segment.nodes)
    graph = fx.Graph()
    entering = next(iter(_entering(segment, inside)))
    mapping: dict[fx.Node, fx.Node] = {entering: graph.placeholder("x")}
    for node in segment.nodes:
        mapping[node] = graph.node_copy(node, lambda n: mapping[n])
    graph.output(mapping[segment.nodes[-1]])
    return fx.GraphModule(model, graph, class_name="Unit")


def _entering(segment: _Segment, inside: set[fx.Node]) -> Iterator[fx.Node]:
    for node in segment.nodes:
        for source in node.all_input_nodes:
            if source not in inside:
                yield source
