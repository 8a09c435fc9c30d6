"""Names of the layouts and published weights that are known, apart from what writes and reads them: the command line starts
without it."""

from __future__ import annotations

from enum import StrEnum


class Layout(StrEnum):
    """Whose layout it is; docs/data.md says what each holds."""

    VHAP = "vhap"
    GAGAVATAR = "gagavatar"
    INSTA = "insta"


class Published(StrEnum):
    """Whose published weights `headwater import` reads."""

    GAGAVATAR = "gagavatar"
    MONONPHM = "mononphm"
