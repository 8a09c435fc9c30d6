"""NPGA (Giebenhain et al., SIGGRAPH Asia 2024): Gaussians that a neural head's deformation moves, and a network refines.

sizes     what fixes the shapes, and the paper's ablations
model     canonical Gaussians, the coarse field F, the detailed field G
screen    the network on the rendered picture
losses    what it is trained with
"""

from avatar_models.npga.model import Moved, Npga
from avatar_models.npga.sizes import VARIANTS, NpgaSizes

__all__ = ["VARIANTS", "Moved", "Npga", "NpgaSizes"]
