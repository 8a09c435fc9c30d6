"""params.yaml is typed on load, and a mistake is answered with the way out."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipelines.dotted import flatten
from pipelines.params import ParamsError, load_params

ROOT = Path(__file__).resolve().parents[2]


def write_params(folder: Path, **blocks: object) -> Path:
    base = {"source": {"kind": "folder", "path": "videos", "watch": "videos"}}
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump({**base, **blocks}))
    return path


def test_the_projects_own_file_loads() -> None:
    assert load_params(ROOT / "params.yaml").source.kind == "procedural"


def test_an_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    path = write_params(tmp_path, preprocess={"crop": {"size": 256}})
    with pytest.raises(ParamsError, match=r"unknown key 'preprocess.crop.size'. Did you mean 'preprocess.crop.side'\?"):
        load_params(path)


def test_an_unknown_block_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"unknown key 'preproces'. Did you mean 'preprocess'\?"):
        load_params(write_params(tmp_path, preproces={}))


def test_a_value_out_of_range_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"'train_headgas.steps' = -3"):
        load_params(write_params(tmp_path, train_headgas={"steps": -3}))


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="git checkout params.yaml"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["- a\n- b\n", "source: [\n", "", "source: 2001-99-99\n", "a: " + "[" * 3000])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError, match="params.yaml"):
        load_params(path)


@pytest.mark.parametrize("value", ["yes", "true", "3.0", "'7'"])
def test_a_number_is_a_number(tmp_path: Path, value: str) -> None:
    path = write_params(tmp_path)
    path.write_text(path.read_text() + f"preprocess: {{max_frames: {value}}}\n")
    with pytest.raises(ParamsError, match=r"'preprocess.max_frames' = .*valid integer"):
        load_params(path)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = write_params(tmp_path)
    path.write_text(path.read_text() + "report:\n  title: a\n  title: b\n")
    with pytest.raises(ParamsError, match=r'params.yaml: not valid YAML: found duplicate key "title".* \(line \d+\)'):
        load_params(path)


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(b"a: \xff")
    with pytest.raises(ParamsError, match=r"params.yaml: not UTF-8 text \(byte 3\)"):
        load_params(tmp_path / "params.yaml")
    with pytest.raises(ParamsError, match="Is a directory"):
        load_params(tmp_path)


def test_no_avatar_is_trained_on_more_pixels_than_are_stored(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"train_headgas.resolution = 512 is larger .* preprocess.crop.side = 256"):
        load_params(write_params(tmp_path, train_headgas={"resolution": 512}))
    with pytest.raises(ParamsError, match=r"train_npga.resolution = 512 is larger"):
        load_params(write_params(tmp_path, train_npga={"resolution": 512, "steps": 1}))
    load_params(write_params(tmp_path, train_npga={"resolution": 512, "steps": 0}))


@pytest.mark.parametrize("name", ["decode", "fit", "track"])
def test_no_gpu_is_kept_for_what_runs_on_cpus(name: str, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=rf"compute.{name}.num_gpus = 0.25: it runs on CPUs alone.*set it to 0"):
        load_params(write_params(tmp_path, compute={name: {"num_gpus": 0.25}}))


def test_profiles_set_the_same_keys_so_that_switching_leaves_nothing_behind() -> None:
    def keys(block: dict, prefix: str = "") -> set[str]:
        return set().union(*(keys(v, f"{prefix}{k}.") if isinstance(v, dict) else {f"{prefix}{k}"} for k, v in block.items()))

    profiles = [
        keys(yaml.safe_load((ROOT / "profiles" / f"{name}.yaml").read_text()))
        for name in ("demo", "laptop", "cluster", "paper")
    ]
    assert profiles[0] == profiles[1] == profiles[2] == profiles[3]


def test_no_parameter_has_a_name_that_dvcs_run_cache_leaves_out() -> None:
    """DVC takes `size` and `nfiles` in dvc.lock for facts of a file: where a parameter of that name changes, nothing runs and
    the outs of another value come back."""
    from dvc_data.hashfile.meta import Meta

    own = load_params(ROOT / "params.yaml").model_dump()
    names = {part for key in flatten(own) for part in key.split(".")}
    assert names.isdisjoint({Meta.PARAM_SIZE, Meta.PARAM_NFILES})
