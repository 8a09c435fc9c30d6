"""Our neural head against the released MonoNPHM code, with the same random weights, on a CPU.

    python -m bench.mononphm_released MONONPHM [POINTS]

MONONPHM is a checkout of github.com/SimonGiebenhain/MonoNPHM (MIT) at e9a30f5, outside this repository. A checkpoint of the
released layout is written with random tensors, brought in by our importer, and both answer for the same points. What the
released code needs and is not here (PyTorch3D's neighbours, the message passing of torch_geometric) stands below in a few
lines that do the same.

Prints max |ours - theirs| / max |theirs|, and how far each is from the released code in float64; then the time for POINTS
points (100,000 if not given) of both in turns. How fast ours is depends on the weights: of two that are timed, one have the
scale that keeps a signal's size from layer to layer, one are as torch starts them, where hardly any unit is off.
"""

from __future__ import annotations

import importlib
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable
from contextlib import redirect_stdout
from copy import deepcopy
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from avatar_models.heads.nphm import Codes, Nphm
from avatar_models.heads.nphm.model import UNITS
from avatar_models.heads.nphm.released import read_released
from avatar_models.heads.nphm.storage import Codebooks

LOW, HIGH = (-0.4, -0.5, -0.7), (0.4, 0.7, 0.5)
"""The box that the released code trains in, in its units."""

PEOPLE, SCANS = 381, 7707
ROUNDS = 3


class Neighbours(NamedTuple):
    dists: Tensor
    idx: Tensor


def knn_points(points: Tensor, anchors: Tensor, K: int) -> Neighbours:
    """PyTorch3D's neighbours: squared distances and indices, nearest first."""
    dists, idx = torch.cdist(points, anchors, compute_mode="donot_use_mm_for_euclid_dist").topk(K, largest=False)
    return Neighbours(dists.square(), idx)


def scatter(src: Tensor, index: Tensor, dim: int, dim_size: int, reduce: str) -> Tensor:
    return src.new_zeros(dim_size, *src.shape[1:]).index_add(0, index, src)


class MessagePassing(nn.Module):
    """torch_geometric's, for a bipartite graph: messages from the source's features (j) to the target's (i), added up there."""

    def __init__(self, aggr: str) -> None:
        super().__init__()

    def reset_parameters(self) -> None:
        pass

    def propagate(self, edge_index: Tensor, pos: tuple[Tensor, Tensor], size: None, **features: Any) -> Tensor:
        source, target = edge_index
        given: dict[str, Any] = {"pos_i": pos[1][target], "pos_j": pos[0][source], "index": target, "ptr": None}
        for name, value in features.items():
            pair = isinstance(value, tuple)
            given[f"{name}_j" if pair else name] = (
                value[0][source] if pair and value[0] is not None else None if pair else value
            )
        message = self.message(**given)
        return message.new_zeros(len(pos[1]), message.shape[1]).index_add(0, target, message)


def module(name: str, **members: Any) -> None:
    made = types.ModuleType(name)
    made.__dict__.update(members)
    sys.modules[name] = made


def released_networks(checkout: Path, anchors: Tensor) -> tuple[nn.Module, nn.Module]:
    """The released identity and expression networks of the released configuration, with random weights."""
    for name in ("torch_geometric", "torch_geometric.nn", "pytorch3d"):
        module(name)
    utils: dict[str, Any] = {"index_sort": lambda index, most: index.sort(), "scatter": scatter, "segment": None}
    module("torch_geometric.utils", **utils)
    module("torch_geometric.utils.num_nodes", maybe_num_nodes=lambda index, count: count or int(index.max()) + 1)
    module("torch_geometric.nn.conv", MessagePassing=MessagePassing)
    module("torch_geometric.typing", **dict.fromkeys(("Adj", "OptTensor", "PairTensor", "SparseTensor", "torch_sparse"), Any))
    module("pytorch3d.ops", knn_points=knn_points)
    sys.path.insert(0, str(checkout / "src"))
    package = importlib.import_module("mononphm")
    module("mononphm.env_paths")
    package.env_paths = sys.modules["mononphm.env_paths"]
    from mononphm.models.canonical_space import NPHM
    from mononphm.models.deformations import DeformationNetwork

    identity = NPHM(
        lat_dim_glob=64, lat_dim_loc=64, n_symm=30, n_anchors=65, anchors=anchors[None, None], hidden_dim_geo=200,
        hidden_dim_app=200, n_layers_geo=4, n_layers_app=4, d_pos=5, pos_mlp_dim=64, num_neighbors=12, color_branch=True,
        num_freq_bands=0, rank="cpu", blend_std=3.75,
    )  # fmt: skip
    expression = DeformationNetwork(
        mode="compress", lat_dim_expr=100, lat_dim_id=16, lat_dim_glob_shape=64, lat_dim_loc_shape=32, n_loc=65,
        anchors=anchors, hidden_dim=400, nlayers=6, n_hyper=2,
    )  # fmt: skip
    return identity.eval(), expression.eval()


def randomise(networks: tuple[nn.Module, nn.Module]) -> None:
    """Weights that let every part matter: torch's own start lets a signal fade from layer to layer."""
    for network in networks:
        for name, tensor in network.state_dict().items():
            if name.endswith("weight"):
                tensor.normal_(0, (2 / tensor.shape[1]) ** 0.5)
            else:
                tensor.normal_(0, 0.1)
    identity, expression = networks
    for last in (identity.mlp_pos[4], expression.defDeepSDF.lin6):  # anchors and points move by hundredths
        last.weight.mul_(0.02)
        last.bias.mul_(0.2)


def write_released(folder: Path, networks: tuple[nn.Module, nn.Module], checkout: Path) -> None:
    """A folder of the released layout."""
    config = yaml.safe_load((checkout / "scripts" / "configs" / "mononphm.yaml").read_text())
    (folder / "configs.yaml").write_text(yaml.safe_dump(config))
    (folder / "checkpoints").mkdir()
    books = {"geo": torch.randn(PEOPLE, 2176), "app": torch.randn(PEOPLE, 2176), "exp": torch.randn(SCANS, 100)}
    state = {
        "epoch": 2500,
        "id_decoder": networks[0].state_dict(),
        "ex_decoder": networks[1].state_dict(),
        "latent_codes": {f"codebook.{name}.embedding.weight": codes for name, codes in books.items()},
    }
    torch.save(state, folder / "checkpoints" / "checkpoint_epoch_2500.tar")


def imported(networks: tuple[nn.Module, nn.Module], checkout: Path) -> tuple[Nphm, Codebooks]:
    """Theirs as ours, by way of a folder."""
    with tempfile.TemporaryDirectory() as folder:
        write_released(Path(folder), networks, checkout)
        model, books, _ = read_released(Path(folder), checkout / "assets" / "anchors_65.npy")
    return model, books


def compare(name: str, ours: Tensor, theirs: Tensor, exact: Tensor) -> None:
    """`exact` is the released code in float64."""
    largest = float(exact.abs().max())
    apart, theirs_apart, ours_apart = (
        float((a.double() - b.double()).abs().max()) / largest for a, b in ((ours, theirs), (theirs, exact), (ours, exact))
    )
    print(f"{name:36} {tuple(theirs.shape)!s:18} {apart:8.1e} {theirs_apart:12.1e} {ours_apart:12.1e}", flush=True)


def in_turns(name: str, ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
    """Wall-clock and CPU time of both, one after the other, ROUNDS times."""
    found: list[tuple[float, float, float, float]] = []
    for _ in range(ROUNDS):
        row: list[float] = []
        for one in (ours, theirs):
            wall, cpu = time.perf_counter(), time.process_time()
            one()
            row += [time.perf_counter() - wall, time.process_time() - cpu]
        found.append((row[0], row[1], row[2], row[3]))
    our_wall, our_cpu, their_wall, their_cpu = (min(column) for column in zip(*found, strict=True))
    ratio = statistics.median(row[2] / row[0] for row in found)
    cpu_ratio = statistics.median(row[3] / row[1] for row in found)
    print(
        f"{name:36} ours {our_wall:6.2f} s ({our_cpu:6.2f} s of CPU), released {their_wall:6.2f} s ({their_cpu:6.2f} s): "
        f"{ratio:4.1f} times as fast, {cpu_ratio:4.1f} by CPU time",
        flush=True,
    )


def fields(model: Nphm, x: Tensor, codes: Codes) -> dict[str, Tensor]:
    """Ours in their units: points (1, N, 5) at rest, of which x, y, z are asked posed too."""
    anchors = model.anchors(codes.geometry)
    sdf, color = model.canonical.sdf_and_color(x, codes.geometry, codes.appearance)
    posed = x[..., :3] / UNITS
    moved = model.at_rest(posed, codes)
    return {
        "anchors": UNITS * anchors,
        "signed distance at rest": model.canonical.sdf(x, codes.geometry),
        "the same, beside a colour": sdf,
        "colour at rest": color,
        "deformation: offsets": UNITS * (moved[..., :3] - posed),
        "deformation: hyper coordinates": moved[..., 3:],
        "signed distance, posed": UNITS * model.sdf(posed, codes),
        "colour, posed": 2 * model.sdf_and_color(posed, codes)[1] - 1,
    }


def released_fields(networks: tuple[nn.Module, nn.Module], x: Tensor, cond: dict[str, Tensor]) -> dict[str, Tensor]:
    identity, expression = networks
    at_rest = identity({"queries_can": x, "cond": cond})
    alone = identity({"queries_can": x, "cond": cond}, skip_color=True)
    given = {"queries": x[..., :3], "cond": cond, "anchors": identity.get_anchors(cond["geo"])}
    moved = expression(given)
    places = torch.cat([x[..., :3] + moved["offsets"], moved["hyper_coords"]], 2)
    posed = identity({"queries_can": places, "cond": cond})
    return {
        "anchors": at_rest["anchors"],
        "signed distance at rest": alone["sdf"][..., 0],
        "the same, beside a colour": at_rest["sdf"][..., 0],
        "colour at rest": at_rest["color"],
        "deformation: offsets": moved["offsets"],
        "deformation: hyper coordinates": moved["hyper_coords"],
        "signed distance, posed": posed["sdf"][..., 0],
        "colour, posed": posed["color"],
    }


@torch.no_grad()
def main() -> None:
    checkout, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    torch.manual_seed(0)
    torch.set_num_threads(2)
    anchors_file = checkout / "assets" / "anchors_65.npy"
    with redirect_stdout(StringIO()):
        networks = released_networks(checkout, torch.from_numpy(np.load(anchors_file)).float())
    started = deepcopy(networks)
    randomise(networks)
    model, books = imported(networks, checkout)
    theirs, ours = (
        sum(p.numel() for p in parts) for parts in ((p for n in networks for p in n.parameters()), model.parameters())
    )
    print(
        f"{theirs:,} parameters there, {ours:,} here; codes of {len(books.geometry)} people and {len(books.expression)} scans"
    )

    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    x = torch.cat([low + (high - low) * torch.rand(1, count, 3), 0.1 * torch.randn(1, count, 2)], 2)
    codes = Codes(*(0.3 * torch.randn(1, length) for length in (2176, 2176, 100)))
    cond = {"geo": codes.geometry[None], "app": codes.appearance[None], "exp": codes.expression[None]}

    print(f"{'largest difference over largest value':36} {'':18} {'apart':>8} {'theirs, f64':>12} {'ours, f64':>12}")
    some = x[:, :2000]
    in_single, our_fields = released_fields(networks, some, cond), fields(model, some, codes)
    for network in networks:
        network.double()
    networks[0].anchors = networks[0].anchors.double()
    exact = released_fields(networks, some.double(), {name: code.double() for name, code in cond.items()})
    for network in networks:
        network.float()
    networks[0].anchors = networks[0].anchors.float()
    for name, found in in_single.items():
        compare(name, our_fields[name], found, exact[name])

    identity, expression = networks
    anchors, given = model.canonical.anchors(codes.geometry), {"cond": cond, "anchors": networks[0].get_anchors(cond["geo"])}
    print(f"{count:,} points, {torch.get_num_threads()} threads, the best of {ROUNDS} turns and the median of their ratios")
    in_turns(
        "signed distance",
        lambda: model.canonical.sdf(x, codes.geometry),
        lambda: identity({"queries_can": x, "cond": cond}, skip_color=True),
    )
    started_model, _ = imported(started, checkout)
    in_turns(
        "the same, weights as torch starts",
        lambda: started_model.canonical.sdf(x, codes.geometry),
        lambda: started[0]({"queries_can": x, "cond": cond}, skip_color=True),
    )
    in_turns(
        "signed distance and colour",
        lambda: model.canonical.sdf_and_color(x, codes.geometry, codes.appearance),
        lambda: identity({"queries_can": x, "cond": cond}),
    )
    in_turns(
        "deformation",
        lambda: model.deformation(x[..., :3], codes.geometry, anchors, codes.expression),
        lambda: expression({**given, "queries": x[..., :3]}),
    )


if __name__ == "__main__":
    main()
