"""The page's tables of what faces tell: what nobody has is left out, what somebody lacks stays empty."""

from __future__ import annotations

from pipelines.csim_asset import CsimRecord
from pipelines.report.figures import face_tables, known_in, written

ARCFACE = CsimRecord("ArcFace", "ab" * 32)


def test_a_figure_is_written_or_left_empty() -> None:
    assert [written({"akd": value}, "akd", "{:.2f}") for value in (1.256, None)] == ["1.26", ""]
    assert written({}, "akd", "{:.2f}") == ""


def test_each_kind_has_a_row_for_each_subject_and_their_mean() -> None:
    of_subject = {
        "ben": {"akd": 2.0, "csim": 0.75, "no_face_made": 0.0, "cross_aed": 0.25, "psnr": 30.0},
        "ada": {"akd": None, "csim": None, "no_face_made": 30.0, "cross_aed": None, "psnr": 10.0},
    }
    own, cross = face_tables(of_subject, {"akd": 2.0, "csim": 0.75, "no_face_made": 15.0, "cross_aed": 0.25}, ARCFACE)
    assert (own["kind"], own["names"]) == ("self", ["AKD, pixels", "CSIM (ArcFace)", "frames without a face"])
    assert own["rows"] == [("ada", ["", "", "30.0"]), ("ben", ["2.00", "0.750", "0.0"]), ("mean", ["2.00", "0.750", "15.0"])]
    assert (cross["kind"], cross["names"]) == ("cross", ["AED"])
    assert cross["rows"] == [("ada", [""]), ("ben", ["0.2500"]), ("mean", ["0.2500"])]


def test_without_figures_there_are_no_tables() -> None:
    assert face_tables({}, {}, None) == [] and face_tables({"ada": {"psnr": 10.0}}, {"psnr": 10.0}, None) == []
    assert [table["kind"] for table in face_tables({"ada": {"akd": 1.0}}, {"akd": 1.0}, None)] == ["self"]


def test_csim_is_called_by_its_network() -> None:
    shown = (("csim", "CSIM", "{:.3f}"), ("akd", "AKD", "{:.2f}"))
    assert known_in(shown, [{"csim": 0.5}, {"akd": None}], ARCFACE) == [("csim", "CSIM (ArcFace)", "{:.3f}")]
    assert known_in(shown, [{"akd": 0.5}], None) == [("akd", "AKD", "{:.2f}")]
