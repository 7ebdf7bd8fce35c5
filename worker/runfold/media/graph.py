"""Graph: nodes and edges, mostly those of a neural network. Out: a JSON file."""

from __future__ import annotations

from typing import Any, ClassVar

from runfold.media.content import Content
from runfold.media.json_text import json_text, plain
from runfold.media.media import Media

_FIELDS = (
    *("id", "name", "class_name", "size", "parameters", "output_shape", "is_output", "num_parameters"),
    *("child_parameters", "functions", "is_constant"),
)


class Node:
    """A node: what is said of it are attributes; None where nothing is."""

    def __init__(
        self,
        id: Any = None,  # noqa: A002  # W&B's name
        name: str | None = None,
        *,
        node: Node | None = None,
        **facts: Any,
    ) -> None:
        """Take what is known: class_name, size, parameters, output_shape, is_output, num_parameters.

        Raises:
            TypeError: Something else is said.
        """
        if unknown := facts.keys() - set(_FIELDS):
            raise TypeError(f"Node() got an unexpected keyword argument {min(unknown)!r}")
        known = {} if node is None else {key: value for key, value in node.facts.items() if key != "id"}
        given = {"id": id, "name": name, **facts}
        #: What was said, by name.
        self.facts: dict[str, Any] = {"name": None, **known}
        for key, value in given.items():
            if value is not None:
                setattr(self, key, value)

    def __getattr__(self, name: str) -> Any:
        if name in _FIELDS:
            return self.facts.get(name)
        raise AttributeError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIELDS:
            self.facts[name] = tuple(value) if name == "size" else value
        else:
            object.__setattr__(self, name, value)

    def to_json(self, run: object = None) -> dict[str, Any]:
        """Return what is known of it. `run` is accepted for W&B's signature."""
        del run
        return self.facts

    def __repr__(self) -> str:
        return repr(self.facts)


class Edge:
    """A connection of two nodes."""

    def __init__(self, from_node: Node, to_node: Node, name: str | None = None) -> None:
        self.from_node = from_node
        self.to_node = to_node
        self.name = name

    def to_json(self, run: object = None) -> list[Any]:
        """Return the ids of both. `run` is accepted for W&B's signature."""
        del run
        return [self.from_node.id, self.to_node.id]

    def __repr__(self) -> str:
        return f"{self.from_node.id!r} -> {self.to_node.id!r}"


class Graph(Media):
    """A graph for log(). It is stored as it is when it is logged."""

    TYPE: ClassVar[str] = "graph-file"
    FOLDER: ClassVar[str] = "media/graph"

    def __init__(self, format: str = "keras") -> None:  # noqa: A002  # W&B's name
        """Begin an empty graph. `format` tells viewers how to draw it."""
        super().__init__()
        self.format = format
        self.nodes: list[Node] = []
        self.nodes_by_id: dict[Any, Node] = {}
        self.edges: list[Edge] = []
        self.root: Node | None = None

    def add_node(self, node: Node | None = None, **facts: Any) -> Node:
        """Add a node, or one of these facts. ValueError: both are given."""
        if node is None:
            node = Node(**facts)
        elif facts:
            raise ValueError(f"Only pass one of either node ({node}) or other keyword arguments ({facts})")
        self.nodes.append(node)
        self.nodes_by_id[node.id] = node
        return node

    def add_edge(self, from_node: Node, to_node: Node) -> Edge:
        """Connect two nodes."""
        edge = Edge(from_node, to_node)
        self.edges.append(edge)
        return edge

    def __getitem__(self, node_id: Any) -> Node:
        return self.nodes_by_id[node_id]

    def hold(self) -> None:
        """Take the graph as it is now. TypeError: something in it has no form in JSON."""
        if self._content is None:
            told = {
                "format": self.format,
                "nodes": [node.to_json() for node in self.nodes],
                "edges": [edge.to_json() for edge in self.edges],
            }
            self._content = Content.of_text(".graph.json", json_text(plain(told)))
        super().hold()
