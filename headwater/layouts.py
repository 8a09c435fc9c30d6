"""Names of the layouts that tracks can be written in, apart from what writes them: the command line starts without it."""

from __future__ import annotations

from enum import StrEnum


class Layout(StrEnum):
    """Whose layout it is; docs/data.md says what each holds."""

    VHAP = "vhap"
    GAGAVATAR = "gagavatar"
    INSTA = "insta"
