"""MonoNPHM's neural head (Giebenhain et al., CVPR 2024; NPHM, CVPR 2023): codes to a signed distance and a colour.

ensemble     small MLPs that rows are grouped by
canonical    anchors, and the fields of the head at rest
deformation  from the posed head to the head at rest
model        all of it in metres, and normals
surface      a mesh of it
tracking     a head through a sequence of point clouds: identity, expressions, poses
inversion    where points at rest go when the head is posed
"""

from avatar_models.heads.nphm.model import Codes, Nphm
from avatar_models.heads.nphm.sizes import SIZES, NphmSizes, medium, published, small
from avatar_models.heads.nphm.surface import Surface, SurfaceError, surface, surface_at_rest

__all__ = [
    "SIZES",
    "Codes",
    "Nphm",
    "NphmSizes",
    "Surface",
    "SurfaceError",
    "medium",
    "published",
    "small",
    "surface",
    "surface_at_rest",
]
