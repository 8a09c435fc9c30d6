"""Our model in the released setting against the released code, with the same random weights, module by module, on a CPU.

    python -m bench.gagavatar_released GAGAVATAR DINOV2 [WINDOWS]

GAGAVATAR is a checkout of github.com/xg-chu/GAGAvatar (MIT) at beb44a3, DINOV2 one of github.com/facebookresearch/dinov2
(Apache-2.0); both lie outside this repository. A file of the checkpoint's layout is written with random tensors, read by
both, and fed with the same photo. What the released code needs and is not here (torchvision's normalisation and resizing,
PyTorch3D's harmonics, its CUDA rasteriser) stands below in a few lines.

Prints max |ours - theirs| / max |theirs|, and the same of norms.
WINDOWS of the coarse picture's 256 go through the float64 reference rasteriser (all by default, some minutes).
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from avatar_models.cameras import Camera, cropped
from avatar_models.gagavatar import RELEASED
from avatar_models.gagavatar.branches import encoded
from avatar_models.gagavatar.lifting import plane
from avatar_models.gagavatar.photo_colors import Photos
from avatar_models.gagavatar.released import read_released
from avatar_models.gaussians import Gaussians
from avatar_models.splatting.reference import splat_reference

UNITS = 5.0  # the released code's world units in a metre
FOCAL, SIZE, WINDOW = 12.0, 512, 32


class Normalize(nn.Module):
    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.mean, self.std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Harmonics(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.frequencies = 2.0 ** torch.arange(count)

    def forward(self, x: Tensor) -> Tensor:
        angles = (x[..., None] * self.frequencies).reshape(*x.shape[:-1], -1)
        return torch.cat([angles.sin(), angles.cos(), x], -1)


def module(name: str, **members: Any) -> None:
    made = types.ModuleType(name)
    made.__dict__.update(members)
    sys.modules[name] = made
    if "." in name:
        parent, _, child = name.rpartition(".")
        setattr(sys.modules[parent], child, made)


def released_model(gagavatar: Path, dinov2: Path) -> nn.Module:
    """The released code's model with random weights."""
    module("torchvision")
    module("torchvision.transforms", Normalize=Normalize)
    module(
        "torchvision.transforms.functional",
        resize=lambda x, size, antialias: interpolate(x, tuple(size), mode="bilinear", antialias=antialias),
    )
    for name in ("pytorch3d", "pytorch3d.renderer", "pytorch3d.renderer.implicit"):
        module(name)
    module("pytorch3d.renderer.implicit.harmonic_embedding", HarmonicEmbedding=Harmonics)
    module("diff_gaussian_rasterization_32d", GaussianRasterizationSettings=None, GaussianRasterizer=None)
    sys.path[:0] = [str(gagavatar), str(dinov2)]

    importlib.import_module("core.libs")
    module("core.libs.utils_perceptual", FacePerceptualLoss=lambda **_: nn.Identity())
    module("core.libs.utils_lmdb", LMDBEngine=None)
    module("core.libs.flame_model", FLAMEModel=None)
    from dinov2.models.vision_transformer import vit_base

    torch.hub.load = lambda *_, **__: vit_base(patch_size=14, img_size=518, init_values=1.0, block_chunks=0)
    from core.models.GAGAvatar.models import GAGAvatar as Released

    return Released().eval()


def randomise(model: nn.Module) -> None:
    """Weights that let every part matter: layer scales and noise weights are zero or tiny as made."""
    for name, tensor in model.state_dict().items():
        noise_weight = "style_conv" in name and tensor.shape == (1,)
        if name.endswith("gamma"):
            tensor.uniform_(0.5, 1.0)
        elif noise_weight or ("bias" in name and "modulation" not in name):
            tensor.normal_(0, 0.1)


def compare(name: str, ours: Tensor, theirs: Tensor) -> None:
    apart, theirs = (ours - theirs).double(), theirs.double()
    largest, mean = float(apart.abs().max() / theirs.abs().max()), float(apart.norm() / theirs.norm())
    print(f"{name:48} {tuple(theirs.shape)!s:24} {largest:.1e}  {mean:.1e}", flush=True)


def covariances_of_3dgs(scales: Tensor, quats: Tensor) -> Tensor:
    """What the released rasteriser makes of scales (N, 3) and quaternions (N, 4), of which it takes no length."""
    r, x, y, z = quats.unbind(1)
    M = torch.stack(
        [
            torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - r * z), 2 * (x * z + r * y)], 1),
            torch.stack([2 * (x * y + r * z), 1 - 2 * (x * x + z * z), 2 * (y * z - r * x)], 1),
            torch.stack([2 * (x * z - r * y), 2 * (y * z + r * x), 1 - 2 * (x * x + y * y)], 1),
        ],
        1,
    )
    return torch.einsum("nij,nj,nkj->nik", M, scales**2, M)


def through_reference(gaussians: Gaussians, camera: Camera, windows: int) -> Tensor:
    """Windows (W, C, 32, 32) of the picture."""
    double = Gaussians(
        gaussians.means.double(), None, None, gaussians.opacities.double(), gaussians.colors.double(),
        gaussians.covariances.double(),
    )  # fmt: skip
    found = []
    for index in torch.linspace(0, (SIZE // WINDOW) ** 2 - 1, windows).long().tolist():
        row, column = divmod(index, SIZE // WINDOW)
        view = cropped(camera.to(dtype=torch.float64), column * WINDOW, row * WINDOW, WINDOW, WINDOW)
        black = torch.zeros(1, double.colors.shape[1], dtype=torch.float64)
        found.append(splat_reference(double, view, black).image[0])
    return torch.stack(found)


@torch.no_grad()
def main() -> None:
    torch.manual_seed(0)
    theirs = released_model(Path(sys.argv[1]), Path(sys.argv[2]))
    windows = int(sys.argv[3]) if len(sys.argv) > 3 else (SIZE // WINDOW) ** 2
    randomise(theirs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "GAGAvatar.pt"
        torch.save({"model": theirs.state_dict(), "meta_cfg": {"MODEL": {}}}, path)
        ours = read_released(path)
    print(
        f"{sum(p.numel() for p in theirs.parameters()):,} parameters there, {sum(p.numel() for p in ours.parameters()):,} here"
    )

    photo = torch.rand(1, 3, 16, 16)
    photo = interpolate(photo, (SIZE, SIZE), mode="bicubic").clamp(0, 1)
    # a camera in PyTorch3D's convention (rows, x left, y up), a little to the side, and the same in ours
    axis = torch.tensor([0.1, 0.25, 0.05])
    turn = torch.linalg.matrix_exp(torch.tensor([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]]))
    R = torch.diag(torch.tensor([-1.0, 1.0, -1.0])) @ turn
    T = torch.tensor([0.1, -0.05, 9.2])
    transform = torch.cat([R, T[:, None]], 1)[None]
    flip = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    viewmat = torch.eye(4)
    viewmat[:3, :3], viewmat[:3, 3] = flip @ R.T, flip @ T / UNITS
    focal = FOCAL * SIZE / 2
    K = torch.tensor([[focal, 0, SIZE / 2], [0, focal, SIZE / 2], [0, 0, 1]])
    camera = Camera(K[None], viewmat[None], SIZE, SIZE)

    from core.data import loader_track

    planes = loader_track.build_points_planes(296, transform[0])
    points, direction = plane(camera, 296)
    compare("plane: points", points[0] * UNITS, planes["plane_points"])
    compare("plane: axis", direction[0], planes["plane_dirs"])
    code = theirs.harmo_encoder(planes["plane_dirs"][None])
    compare("encoded axis", encoded(direction), code)

    resized = interpolate(photo, (518, 518), mode="bilinear", antialias=True)
    F_local, F_id = theirs.base_model(resized, output_size=296)
    our_local, our_id = ours.encoder(photo, RELEASED)
    compare("encoder: feature map", our_local, F_local)
    compare("encoder: global feature", our_id, F_id)

    vertices = torch.randn(1, 5023, 3) * torch.tensor([0.35, 0.5, 0.4])
    beside = torch.cat([theirs.head_base[None], F_id[:, None].expand(-1, 5023, -1)], 2)
    g = theirs.gs_generator_g(beside, code)
    person = ours.person(Photos(photo, camera, vertices / UNITS))
    compare("expression branch: colours", person.on_vertices.colors, g["colors"])
    compare("expression branch: opacities", person.on_vertices.opacities[..., None], g["opacities"])
    compare("expression branch: scales", person.on_vertices.scales * UNITS, g["scales"])
    compare("expression branch: rotations", person.on_vertices.quats, g["rotations"])
    lifted = [branch(F_local, code) for branch in (theirs.gs_generator_l0, theirs.gs_generator_l1)]
    both = {key: torch.cat([part[key] for part in lifted], 1) for key in lifted[0]}
    compare("lifting branches: colours", person.lifted.colors, both["colors"])
    compare("lifting branches: opacities", person.lifted.opacities[..., None], both["opacities"])
    compare("lifting branches: scales", person.lifted.scales * UNITS, both["scales"])
    compare("lifting branches: rotations", person.lifted.quats, both["rotations"])
    axis, places = planes["plane_dirs"], planes["plane_points"]
    xyz = [places + sign * part["positions"] * axis for sign, part in zip((1, -1), lifted, strict=True)]
    compare("lifted points", person.points * UNITS, torch.cat(xyz, 1))

    (gaussians,) = ours.gaussians(person, vertices / UNITS)
    scales, quats = torch.cat([g["scales"], both["scales"]], 1)[0], torch.cat([g["rotations"], both["rotations"]], 1)[0]
    their_gaussians = Gaussians(
        torch.cat([vertices, *xyz], 1)[0] / UNITS, None, None,
        torch.cat([g["opacities"], both["opacities"]], 1)[0, :, 0],
        torch.cat([g["colors"], both["colors"]], 1)[0],
        covariances_of_3dgs(scales / UNITS, quats),
    )  # fmt: skip
    compare("covariances", gaussians.covariances, their_gaussians.covariances)
    coarse = through_reference(their_gaussians, camera, windows)
    compare(f"32 channels, {windows} windows, float64 reference", through_reference(gaussians, camera, windows), coarse)
    # Of Gaussians at the same depth but for rounding, either may be in front: with their places ours are in their order.
    same_places = replace(gaussians, means=their_gaussians.means)
    compare("the same, with their places", through_reference(same_places, camera, windows), coarse)
    features = ours.features(person, vertices / UNITS, camera)
    compare("neural renderer", ours.renderer(features), theirs.upsampler(features, randomize_noise=False))


if __name__ == "__main__":
    main()
