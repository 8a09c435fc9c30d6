"""The command line for people. `dvc` runs stages; this tells, checks, renders and compares."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from headwater.ending import fail, run_program, stoppable, writing
from headwater.layouts import Layout, Published

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Raw head videos in, drivable Gaussian head avatars out.")
console = Console()
EXPRESSIONS = "NAME=VALUE, may be repeated; the names are condition_names in avatar.json, and a wrong one lists them"


@app.command()
def status() -> None:
    """What is done or old, what failed and why, what comes next."""
    from headwater.status import StatusError, show_status

    try:
        show_status(console)
    except StatusError as error:
        raise fail(str(error)) from None


@app.command()
def doctor() -> None:
    """What works on this machine, what does not, and what to do."""
    from headwater.doctor import examine, show

    found = examine()
    show(console, found)
    if any(finding.state == "fail" for finding in found):
        raise typer.Exit(1)


@app.command()
def profile(
    name: Annotated[str, typer.Argument(help="demo, laptop, cluster or paper")],
    force: Annotated[bool, typer.Option(help="also overwrite values that you have set yourself")] = False,
) -> None:
    """Switch params.yaml to a profile."""
    from headwater.profile import ProfileError, apply_profile, make_source_folder
    from pipelines.params import ParamsError, load_params

    with writing(Path("params.yaml"), ProfileError, ParamsError):
        for key, before, after in apply_profile(Path("params.yaml"), Path("profiles"), name, force=force):
            console.print(f"{key}: {before} -> {after}", highlight=False, markup=False)
        empty = make_source_folder(load_params().source)
    videos = f"put videos into {escape(str(empty))} (one person per file, or per sub-folder), then " if empty else ""
    console.print(f"params.yaml is set to [b]{name}[/b]. Next: {videos}dvc repro", highlight=False)


@app.command()
def render(
    avatar: Annotated[Path, typer.Argument(help="an avatar's folder, such as models/headgas/NAME")],
    output: Annotated[Path, typer.Option("-o", "--output", help="an .mp4 or .png file")],
    driver: Annotated[str, typer.Option(help="a tracked segment that drives it (see data/tracks/segments.parquet)")] = "",
    expression: Annotated[list[str] | None, typer.Option(help=EXPRESSIONS)] = None,
    size: Annotated[int, typer.Option(min=32, max=4096, help="side of the picture in pixels")] = 512,
) -> None:
    """Render an avatar: driven by another clip, or with one expression."""
    from avatar_models.avatar import AvatarError
    from headwater.render import RenderError, render_to_file
    from pipelines.subject import UnknownSegment
    from pipelines.tables import SchemaError

    with writing(output, RenderError, AvatarError, SchemaError, UnknownSegment):
        count = render_to_file(avatar, output, driver=driver, expressions=expression or [], size=size)
    console.print(f"wrote {escape(str(output))}: {count} picture{'s' if count != 1 else ''} of {size} x {size}")


@app.command()
def animate(
    photos: Annotated[list[Path], typer.Argument(help="a photo of one person; several are shown side by side")],
    driver: Annotated[str, typer.Option(help="the video of somebody who moves them, or a tracked segment's name")],
    output: Annotated[Path, typer.Option("-o", "--output", help="an .mp4 file")],
    model: Annotated[Path, typer.Option(help="a one-shot model's folder")] = Path("models/oneshot"),
    background: Annotated[str, typer.Option(help="black, white, another colour's name or #rrggbb")] = "black",
    size: Annotated[int | None, typer.Option(help="side of each picture in pixels; the model's own if not given")] = None,
    with_driver: Annotated[bool, typer.Option("--with-driver", help="show the driver as the first picture")] = False,
    save_avatar: Annotated[Path | None, typer.Option(help="a new folder to keep the avatar in, for `headwater render`")] = None,
) -> None:
    """Make photos move and talk as somebody in a video does."""
    from avatar_models.model_folder import ModelError
    from headwater.animate import AnimateError, animate_to_file
    from pipelines.main import EXPECTED
    from pipelines.oneshot.photo import PhotoError

    with writing(output, AnimateError, PhotoError, ModelError, *EXPECTED):
        made = animate_to_file(
            photos, driver, output, model=model, background=background, size=size, with_driver=with_driver,
            save_avatar=save_avatar, console=console,
        )  # fmt: skip
    for line in made.told:
        console.print(line, highlight=False, markup=False)
    wrote = f"wrote {output}: {made.frames} frames, {made.size} x {made.size} each"
    console.print(wrote, highlight=False, markup=False)


@app.command()
def export(
    avatar: Annotated[Path, typer.Argument(help="an avatar's folder, such as models/headgas/NAME")],
    output: Annotated[Path, typer.Option("-o", "--output", help="a .ply file")],
    expression: Annotated[list[str] | None, typer.Option(help=EXPRESSIONS)] = None,
    compressed: Annotated[bool, typer.Option(help="the compressed layout of SuperSplat, about a quarter of the size")] = False,
) -> None:
    """Write an avatar with one expression as a PLY file for Gaussian splatting viewers."""
    from avatar_models.avatar import AvatarError
    from headwater.export import export_to_file
    from headwater.render import RenderError

    with writing(output, RenderError, AvatarError):
        count = export_to_file(avatar, output, expressions=expression or [], compressed=compressed)
    console.print(f"wrote {escape(str(output))}: {count} Gaussians")


@app.command()
def compress(
    avatar: Annotated[Path, typer.Argument(help="an avatar's folder, such as models/headgas/NAME")],
    output: Annotated[Path, typer.Argument(help="a folder that does not exist yet, or is empty")],
    features: Annotated[int, typer.Option(min=0, help="features of each Gaussian; 0: all that it has")] = 4,
    rank: Annotated[int, typer.Option(min=0, help="mixtures of expression values that the basis blends; 0: no mixtures")] = 32,
    bits: Annotated[int, typer.Option(help="8 or 16: bits of a number; places and sizes always have 16")] = 8,
) -> None:
    """Write an avatar in a much smaller file, and say how much its pictures change."""
    from avatar_models.avatar import AvatarError
    from avatar_models.headgas import Smaller
    from headwater.compress import CompressError, compress_to_folder

    with writing(output, CompressError, AvatarError):
        told = compress_to_folder(avatar, output, Smaller(features, rank, bits))
    for line in told:
        console.print(line, highlight=False, markup=False)


@app.command()
def export_tracks(
    clip: Annotated[str, typer.Argument(help="a tracked segment (see data/tracks/segments.parquet)")],
    to: Annotated[Layout, typer.Option(help="whose layout: VHAP's (GaussianAvatars), GAGAvatar_track's or INSTA's")],
    output: Annotated[Path, typer.Option("-o", "--output", help="a folder that does not exist yet, or is empty")],
) -> None:
    """Write a tracked clip's pictures, cameras and expressions in the layout of another project."""
    from avatar_models.heads.storage import HeadFileError
    from headwater.export_tracks import ExportError, export_to_folder
    from pipelines.params import ParamsError
    from pipelines.subject import UnknownSegment
    from pipelines.tables import SchemaError

    with writing(output, ExportError, UnknownSegment, HeadFileError, ParamsError, SchemaError):
        told = export_to_folder(clip, to, output)
    for line in told:
        console.print(line, highlight=False, markup=False)


@app.command()
def overlay(
    clip: Annotated[str, typer.Argument(help="a tracked segment (see data/tracks/segments.parquet)")],
    output: Annotated[Path, typer.Option("-o", "--output", help="an .mp4 file")],
    size: Annotated[int, typer.Option(min=128, max=2048, help="side of the crop in pixels")] = 512,
    crop: Annotated[bool, typer.Option("--crop", help="only the stored crops, without the source video beside them")] = False,
    neural: Annotated[bool, typer.Option("--neural", help="the neural head of track_nphm, not preprocess's fit")] = False,
) -> None:
    """Write a video that shows what tracking found in a clip: the fitted head and the landmarks over the pictures."""
    from avatar_models.heads.nphm.surface import SurfaceError
    from avatar_models.heads.storage import HeadFileError
    from avatar_models.model_folder import ModelError
    from headwater.overlay import OverlayError, fitted_segment, overlay_to_file
    from pipelines.formats.fields import FormatError
    from pipelines.nphm_tracks.shown import neural_segment
    from pipelines.params import ParamsError
    from pipelines.subject import UnknownSegment
    from pipelines.tables import SchemaError

    expected = (OverlayError, UnknownSegment, FormatError, HeadFileError, ModelError, ParamsError, SchemaError, SurfaceError)
    with writing(output, *expected):
        read = neural_segment if neural else fitted_segment
        made = overlay_to_file(clip, output, size=size, crop_only=crop, console=console, read=read)
    if made.fallback:
        console.print(f"{made.fallback}. The stored crops are shown alone.", highlight=False, markup=False)
    told = f"{made.frames} frames, {made.left_out} left out of training, {made.without_face} without a face"
    console.print(f"wrote {output}: {told}", highlight=False, markup=False)


@app.command()
def ui(port: Annotated[int, typer.Option(help="port on this machine")] = 5000) -> None:
    """Open MLflow on every run of this project."""
    from headwater.ui import UiError, command, serve
    from pipelines.params import ParamsError, load_params
    from pipelines.tracking import TrackingUnreachable, runs_page, tracking_uri

    try:
        params = load_params()
        uri = tracking_uri(params)
    except ParamsError as error:
        raise fail(str(error)) from None
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise fail(f"port {port} is taken; name another with --port {port + 1}")
    if uri.startswith(("http://", "https://")):
        console.print(f"the runs are kept by the MLflow server at {uri}: open that address", highlight=False)
        return
    address = f"http://127.0.0.1:{port}"
    console.print(f"MLflow on {address}, in up to half a minute (Ctrl-C ends it)", highlight=False)
    with suppress(KeyboardInterrupt):
        try:
            serve(console, command(uri, port), address, runs_page(params, address))
        except (TrackingUnreachable, UiError) as error:
            raise fail(str(error)) from None


@app.command()
def sweep(
    config: Annotated[Path, typer.Argument(help="a sweep's file, such as sweeps/headgas.yaml")],
    apply: Annotated[bool, typer.Option("--apply", help="run nothing; lay the best values over params.yaml")] = False,
    trial: Annotated[int | None, typer.Option(help="with --apply: this trial's values, such as another of the front")] = None,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="run nothing; open optuna-dashboard on the study")] = False,
    port: Annotated[int, typer.Option(help="the dashboard's port on this machine")] = 8080,
    storage: Annotated[str, typer.Option(help="where the study is kept: a journal file or postgresql://USER@HOST/NAME")] = "",
) -> None:
    """Search parameters with Optuna, trials side by side. Goes on where it stopped."""
    from headwater.profile import ProfileError
    from headwater.sweep import apply_best, run_and_show, serve_dashboard
    from pipelines.main import EXPECTED
    from pipelines.sweeps.config import SweepError

    try:
        if dashboard:
            serve_dashboard(console, config, storage, port)
        elif apply or trial is not None:
            with writing(Path("params.yaml")):
                changed = apply_best(config, trial)
            for key, before, after in changed:
                console.print(f"{key}: {before} -> {after}", highlight=False, markup=False)
            console.print("params.yaml has the values. Next: dvc repro" if changed else "params.yaml has these values already")
        else:
            with stoppable(f"what is finished is kept, and `headwater sweep {config}` goes on from there"):
                run_and_show(console, config, storage)
    except (*EXPECTED, ProfileError, SweepError) as error:
        raise fail(str(error)) from None


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="a run's id, the start of one, or its name")],
    second: Annotated[str, typer.Argument(help="the other run")],
) -> None:
    """Say why two `dvc repro` runs differ."""
    from headwater.compare import CompareError, compare_runs, show_differences
    from pipelines.params import ParamsError
    from pipelines.tracking import TrackingUnreachable

    try:
        show_differences(console, compare_runs(first, second))
    except (CompareError, ParamsError, TrackingUnreachable) as error:
        raise fail(str(error)) from None


RowOption = Annotated[list[str] | None, typer.Option(help="only this row, and others so named; all where none is")]


@contextmanager
def ablating() -> Iterator[None]:
    """What all tables of ablations share: they go on after Ctrl-C, and errors that are expected are told in a line."""
    from headwater.ablate import AblationError
    from pipelines.main import EXPECTED

    try:
        with stoppable("what is finished is kept, and the same command goes on from there"):
            yield
    except (AblationError, *EXPECTED) as error:
        raise fail(str(error)) from None


@app.command()
def ablate(
    subjects: Annotated[
        list[str] | None, typer.Argument(help="subjects to train on; all tracked ones where none is named")
    ] = None,
    steps: Annotated[int, typer.Option(min=0, help="training steps of each avatar; 0: as in params.yaml")] = 0,
    row: RowOption = None,
    retry: Annotated[str, typer.Option(help="a reason of failures, as their table names it: these are tried anew")] = "",
) -> None:
    """Train the ablations of HeadGaS's table over Ray, and print the table with links to MLflow."""
    from headwater.ablate import ablate as run_table

    with ablating():
        run_table(subjects or [], steps, console, [retry] if retry else None, row or [])


@app.command("ablate-oneshot")
def ablate_oneshot(
    steps: Annotated[int, typer.Option(min=0, help="training steps of each model; 0: as in params.yaml")] = 0,
    row: RowOption = None,
    retry: Annotated[str, typer.Option(help="a reason of failures, as their table names it: these are tried anew")] = "",
) -> None:
    """Train the ablations of GAGAvatar's table, judge them on the test subjects, and print the table with links to MLflow."""
    from headwater.ablate_oneshot import ablate_oneshot as run_table

    with ablating():
        run_table(steps, console, [retry] if retry else None, row or [])


@app.command("ablate-npga")
def ablate_npga(
    subjects: Annotated[
        list[str] | None, typer.Argument(help="subjects to train on; all with a neural head where none is named")
    ] = None,
    steps: Annotated[int, typer.Option(min=0, help="training steps of each NPGA avatar; 0: as in params.yaml")] = 0,
    row: RowOption = None,
    retry: Annotated[str, typer.Option(help="a reason of failures, as their table names it: these are tried anew")] = "",
) -> None:
    """Train NPGA's ablations and its peers, judge them on the same frames, and print the table with links to MLflow."""
    from headwater.ablate_npga import ablate_npga as run_table

    with ablating():
        run_table(subjects or [], steps, console, [retry] if retry else None, row or [])


@app.command()
def assets() -> None:
    """The model files in use: where they come from, their licence, and whether they are what they should be."""
    from headwater.assets import show_assets
    from pipelines.params import ParamsError

    try:
        good = show_assets(console)
    except ParamsError as error:
        raise fail(str(error)) from None
    if not good:
        raise typer.Exit(1)


@app.command("import")
def import_(
    kind: Annotated[Published, typer.Argument(help="whose weights")],
    source: Annotated[Path, typer.Argument(help="what was published: GAGAvatar.pt, or MonoNPHM's folder")],
    output: Annotated[Path, typer.Option("-o", "--output", help="a folder that does not exist yet, or is empty")],
    anchors: Annotated[Path | None, typer.Option(help="mononphm: assets/anchors_65.npy of its released code")] = None,
) -> None:
    """Bring published weights into this project's format."""
    from headwater.import_model import ImportFailed, import_gagavatar, import_mononphm

    if (kind is Published.MONONPHM) != (anchors is not None):
        raise fail(
            "--anchors goes with mononphm, and has to be given there: the checkpoint does not hold its mean anchors, "
            "the released code has them in assets/anchors_65.npy"
        )
    with writing(output, ImportFailed):
        told = import_gagavatar(source, output) if anchors is None else import_mononphm(source, anchors, output)
    for line in told:
        console.print(line, highlight=False, markup=False)


@app.command()
def retry(
    stage: Annotated[str, typer.Argument(help="a stage of dvc.yaml that fans out, such as preprocess")],
    reason: Annotated[str, typer.Argument(help="why its items failed, as `headwater status` names it")],
) -> None:
    """Run a stage again with the failures of one reason tried anew."""
    from headwater.status import StatusError, declared_and_locked
    from pipelines.fanout.ledger import DVC_STAGE, load_ledger
    from pipelines.fanout.run import RETRY_VARIABLE
    from pipelines.yaml_files import YamlFileError

    try:
        stages = declared_and_locked()[0]
    except (StatusError, YamlFileError) as error:
        raise fail(str(error)) from None
    fan_outs = (*stages, *DVC_STAGE)
    ledger = load_ledger(stage) if stage in fan_outs else None
    if ledger is None:
        known = ", ".join(name for name in fan_outs if load_ledger(name)) or "none"
        command = stage.replace("_", "-")
        own = f". `headwater {command}` has an option --retry of its own" if stage.startswith("ablate") else ""
        raise fail(f"{stage!r} is no stage of dvc.yaml that has run here; those that have: {known}{own}")
    reasons = ledger.reason_counts()
    if reason not in reasons:
        raise fail(f"no item of {stage} failed for {reason!r}; its reasons: {', '.join(reasons) or 'none, nothing failed'}")
    console.print(f"{reasons[reason]} items of {stage} are tried again")
    words = ["dvc", "repro", "--force", "--single-item", DVC_STAGE.get(stage, stage)]
    # The stages run by `python`: it has to be the one that this command runs in, also where no environment is activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    code = run_program([sys.executable, "-m", *words], {**os.environ, "PATH": path, RETRY_VARIABLE: reason})
    if code == 0:
        console.print("Now run `dvc repro`, so that the stages behind it see what changed.")
    raise typer.Exit(code)


if __name__ == "__main__":
    app()
