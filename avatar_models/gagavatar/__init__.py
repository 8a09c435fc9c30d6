"""GAGAvatar (Chu and Harada, NeurIPS 2024, arXiv 2410.07971): one photo to a drivable avatar in one forward pass.

encoder     the photo to a feature map and one global feature
branches    features to Gaussians: on the head's vertices, and lifted from planes
lifting     where the planes' points lie
renderer    32-channel splats to the picture
settings    what the published weights expect, and what new training does instead
model       all of it together
"""

from avatar_models.gagavatar.model import GAGAvatar, Person
from avatar_models.gagavatar.settings import FIXED, RELEASED, Setting
from avatar_models.gagavatar.sizes import GagavatarSizes, published, small

__all__ = ["FIXED", "RELEASED", "GAGAvatar", "GagavatarSizes", "Person", "Setting", "published", "small"]
