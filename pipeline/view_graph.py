"""The view graph: photographs, joined where a pair is verified. What hangs together, by what, and who is left alone."""

from collections.abc import Iterable

import networkx as nx

from pipeline.types import TwoView


def view_graph(names: Iterable[str], two_views: Iterable[TwoView]) -> nx.Graph:
    """Nodes are photographs; edges carry `inliers`, `matches` and `confidence` of verified pairs. Nodes remember the
    best that any of their pairs reached (`best_matches`, `best_inliers`)."""
    graph = nx.Graph()
    graph.add_nodes_from(names, best_matches=0, best_inliers=0)
    for view in two_views:
        for name in view.names:
            node = graph.nodes[name]
            node["best_matches"] = max(node["best_matches"], view.num_matches)
            node["best_inliers"] = max(node["best_inliers"], len(view.inliers))
        if len(view.inliers):
            graph.add_edge(*view.names, inliers=len(view.inliers), matches=view.num_matches, confidence=view.confidence)
    return graph


def components(graph: nx.Graph) -> list[list[str]]:
    """Groups of photographs that hang together, largest first; single ones are left out."""
    groups = [sorted(group) for group in nx.connected_components(graph) if len(group) > 1]
    return sorted(groups, key=lambda group: (-len(group), group))


def bridges(graph: nx.Graph) -> list[tuple[str, str]]:
    """Pairs without which a component falls apart: where one more photograph would help most."""
    return sorted(tuple(sorted(edge)) for edge in nx.bridges(graph))  # type: ignore[misc]


def left_alone(graph: nx.Graph, registered: Iterable[str], min_inliers: int) -> list[dict[str, str]]:
    """Photographs in no model, each with the reason, in words for the user."""
    registered = set(registered)
    reasons = []
    for name in sorted(set(graph) - registered):
        node = graph.nodes[name]
        if graph.degree[name]:
            reason = f"verified with {graph.degree[name]} photographs, but not reached by the mapper"
        elif node["best_matches"] < min_inliers:
            reason = f"too few matches (at most {node['best_matches']} with any photograph)"
        else:
            reason = f"too few inliers (at most {node['best_matches']} matches with any photograph, none verified)"
        reasons.append({"name": name, "reason": reason})
    return reasons
