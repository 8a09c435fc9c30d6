"""params.yaml, typed on load.

Every stage reads its block through :func:`load_params`. An unknown key is an error that names the nearest known one,
so that a typing mistake never trains a model with a default in silence.

Three kinds of blocks live in the file: `source` (what is read), one block per stage (what is computed; these values
go into cache keys) and `compute` (where and how it is computed; never part of a key, never watched by DVC).
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from pipelines.yaml_files import YamlFileError, read_yaml

PARAMS_FILE = Path("params.yaml")
ONESHOT_MODEL = Path("models/oneshot")

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
CsimNetwork = Literal["sface", "arcface"]


class ParamsError(ValueError):
    """params.yaml does not say what the code understands; the message says where, what and how to mend it."""


class Block(BaseModel):
    """A frozen block of params.yaml that refuses unknown keys, and values of another type (`true` is not 1)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    def as_key(self) -> dict[str, Any]:
        """The block as plain JSON values, for a cache key or an MLflow parameter."""
        return self.model_dump(mode="json")


class Source(Block):
    kind: Literal["procedural", "folder", "vfhq", "nersemble", "nerfblendshape", "insta"]
    path: str
    """procedural: the recipe file; folder: the folder of videos; vfhq: the folder that holds videos/ and meta_info/;
    nersemble: the folder of participants; nerfblendshape, insta: the folder of a subject, or of several."""
    watch: str
    """What DVC hashes to notice a change: the same path, or for a huge source a small list (VFHQ: meta_info)."""


class Workers(Block):
    num_cpus: Annotated[float, Field(gt=0)] = 1.0
    num_gpus: Annotated[float, Field(ge=0)] = 0.0
    count: Annotated[int, Field(ge=0)] = 0
    """Number of actors; 0 is as many as the cluster has room for."""


class Fleet(Block):
    """Processes that train one model together."""

    num_cpus: Annotated[float, Field(gt=0)] = 1.0
    """Of each process."""
    num_gpus: Annotated[float, Field(ge=0)] = 0.0
    count: PositiveInt = 1
    """They share each batch. One works by itself; more are started, joined and replaced by Ray Train."""
    least: Annotated[int, Field(ge=0)] = 0
    """Fewest processes that training goes on with where the cluster has no room for all; 0: as many as `count`."""
    profile_steps: Annotated[int, Field(ge=0)] = 0
    """So many steps of a training are profiled; the trace and a table of operations are with its run in MLflow."""

    @model_validator(mode="after")
    def _least_of_count(self) -> Fleet:
        if self.least > self.count:
            raise ValueError(f"least = {self.least} of a block of compute is more than its count = {self.count}")
        return self


class Compute(Block):
    cache: str = ".headwater/cache"
    """A folder (shared by all nodes of a cluster) or an object-store URI such as s3://bucket/headwater."""
    max_attempts: PositiveInt = 3
    max_quarantined: Fraction = 1.0
    """A stage fails when more than this share of its items ends in quarantine, or when none is left."""
    item_timeout_s: PositiveFloat = 1800.0
    recycle_after_items: PositiveInt = 200
    """An actor process is replaced after this many items: decord leaks a little memory with each reader."""
    decode: Workers = Workers(num_cpus=0.9)
    fit: Workers = Workers(num_cpus=0.2)
    track: Workers = Workers()
    """Of track_nphm."""
    train: Workers = Workers()
    render: Workers = Workers()
    oneshot: Fleet = Fleet()
    nphm: Fleet = Fleet()
    forward: Fleet = Fleet()

    @model_validator(mode="after")
    def _gpus_where_they_are_used(self) -> Compute:
        for name in ("decode", "fit", "track"):
            count = getattr(self, name).num_gpus
            if count:
                raise ValueError(
                    f"compute.{name}.num_gpus = {count:g}: it runs on CPUs alone, and would keep GPUs idle; set it to 0"
                )
        return self


Name = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)]
"""Of a camera, a serial number say, which YAML takes for a number."""


class Catalog(Block):
    test_fraction: Fraction = 0.2
    """Share of each clip's frames, counted from its end, that is held out from training."""
    held_out_cameras: list[Name] = []
    """Cameras whose clips are for judging alone, as the catalog's camera_id names them."""
    held_out_sequences: list[Name] = []
    """The same of sequences: what several cameras filmed at the same time."""


class Crop(Block):
    side: PositiveInt = 256
    """Side of the stored square crop in pixels."""
    scale: PositiveFloat = 2.0
    """Side of the crop over the face box (larger side of the landmarks' bounding box)."""
    smooth_s: PositiveFloat = 0.5
    """Time constant in seconds of the smoothing of the crop's centre."""


class Gates(Block):
    """What a clip, and a frame of it, must reach before training reads it."""

    max_reprojection: PositiveFloat = 0.05
    """Median distance of fitted to detected landmarks over the inter-ocular distance, per frame."""
    max_jitter: PositiveFloat = 0.2
    """Median norm of the second difference of detected landmarks over the inter-ocular distance, per clip."""
    min_coverage: Fraction = 0.5
    """Least share of a clip's frames in which the face was found."""
    min_confidence: Fraction = 0.5
    """Least detector confidence of a frame."""
    min_frames: PositiveInt = 25
    """Least number of good frames of a clip."""


class Preprocess(Block):
    max_fps: PositiveFloat = 30.0
    """Frames are picked by their times so that no more than this many a second are kept."""
    max_frames: PositiveInt = 1000
    """Frames kept of one clip; a longer one is cut off there, and `preprocess` says so."""
    frame_buffer_mb: PositiveInt = 1024
    """Decoded frames that a worker may hold; a longer clip is decoded a second time in place of being held."""
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 95
    cut_threshold: PositiveFloat = 0.35
    """Distance of neighbouring frames' colour histograms (Bhattacharyya, 0 to 1) above which a cut is seen."""
    max_gap_s: PositiveFloat = 1.0
    """A face lost for longer than this splits the clip in two; a shorter loss leaves a gap in the frame index."""
    crop: Crop = Crop()
    head: Literal["procedural", "ict", "flame"] = "procedural"
    head_file: str = ""
    """The model's own file: ict_facekit.npz or ICT-FaceKit's folder for ict, generic_model.pkl or flame2023.pkl for flame."""
    landmarker_file: str = ""
    """MediaPipe's face_landmarker.task, for its landmarks and scores of expression; empty: FaceMesh of the mediapipe wheel."""
    fit_iterations: PositiveInt = 15
    fit_smoothness: Annotated[float, Field(ge=0.0)] = 1.0
    fit_photometric: bool = False
    """Whether the fit to landmarks is refined with the pictures themselves: docs/tracking.md."""
    gates: Gates = Gates()


class Density(Block):
    """Adaptive density control while an avatar trains: docs/headgas.md. Shares are of `steps`."""

    start: Fraction = 0.1
    stop: Fraction = 0.6
    """Gaussians grow and are pruned between these shares of the steps; with stop 0 their number stays."""
    every: PositiveInt = 100
    """Steps between two edits of the set."""
    gradient: PositiveFloat = 2e-4
    """Mean screen-space gradient, in half picture widths, above which a Gaussian grows."""
    max_gaussians: PositiveInt = 5000
    prune_opacity: Fraction = 0.005
    """Gaussians whose opacity stayed below this in all frames since the last edit go."""
    reset_every: Annotated[int, Field(ge=0)] = 0
    """Steps between hard resets of all opacities to 0.01, as in 3DGS; 0: none."""
    decay: Fraction = 1.0
    """Factor of all opacities at each edit; 1: none."""


class TrainHeadgas(Block):
    variant: Literal["full", "rigged", "no_blending", "delta_geometry", "change_all", "no_mlp"] = "rigged"
    """The paper's method, the same with Gaussians that ride on the tracked surface, or an ablation: docs/headgas.md."""
    steps: PositiveInt = 1500
    num_gaussians: PositiveInt = 2500
    """Gaussians at the start."""
    density: Density = Density()
    feature_dim: PositiveInt = 32
    hidden_dim: PositiveInt = 64
    sh_degree: Annotated[int, Field(ge=0, le=3)] = 1
    sh_warmup: Fraction = 0.0
    """Share of the steps over which the harmonics' degree grows from 0 to sh_degree."""
    position_frequencies: Annotated[int, Field(ge=0)] = 4
    lambda_l1: Annotated[float, Field(ge=0.0)] = 0.8
    lambda_ssim: Annotated[float, Field(ge=0.0)] = 0.2
    lambda_perceptual: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of the perceptual term (the paper: 0.1); on a CPU it takes a second a step."""
    perceptual_start: Fraction = 0.2
    """Share of the steps after which the perceptual term is on."""
    perceptual_weights: str = ""
    """torchvision's vgg16-397923af.pth (docs/headgas.md says where it is), or a file of the same layout: for the perceptual
    term, and for LPIPS when avatars are judged."""
    learning_rate: PositiveFloat = 5e-3
    rates: Literal["cosine", "3dgs"] = "cosine"
    """How learning rates fall: all along a cosine, or 3DGS's way, the means' exponentially and the others not."""
    basis_decay: Annotated[float, Field(ge=0.0)] = 5.0
    """Weight decay of the feature basis (AdamW): how strongly an expression has to be worth what it changes."""
    pose_rate: Annotated[float, Field(ge=0.0)] = 5e-3
    """Radians by which a step may turn its frame's tracked head, at first: poses are found along with the avatar; 0: kept."""
    condition_noise: Annotated[float, Field(ge=0.0)] = 0.0
    """Standard deviation of the noise on each step's condition, in standard deviations of the condition itself; Gaussians that
    ride on the surface are moved by it too."""
    resolution: PositiveInt = 128
    """Side in pixels at which the crops are trained on; at most preprocess.crop.side."""
    background: Literal["white", "black", "random"] = "white"
    """What the head's matte is composited over in training; random: another colour at each step, and white when judged."""
    probes: Annotated[int, Field(ge=0)] = 5
    """How often held-out frames are rendered while training goes on."""
    plateau_steps: Annotated[int, Field(ge=0)] = 0
    """Training stops early where the mean loss of so many steps is no better than that of as many before; 0: never."""
    checkpoint_every: Annotated[int, Field(gt=0, multiple_of=25)] = 500
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _room_to_start(self) -> TrainHeadgas:
        if self.density.stop > 0 and self.density.max_gaussians < self.num_gaussians:
            raise ValueError(
                f"train_headgas.density.max_gaussians = {self.density.max_gaussians} is less than the Gaussians at the start, "
                f"num_gaussians = {self.num_gaussians}; raise it, or set density.stop to 0"
            )
        return self


PICTURE_SIDES = {"small": 128, "published": 512}
"""Pixels along a side of the one-shot model's pictures, by train_oneshot.sizes."""


class KeptOut(Block):
    """Who is kept out of training for judging: the one-shot model has to know what it has never seen."""

    share: Fraction = 0.2
    """Of the subjects, chosen by their names' digests; one at least where there are two or more."""
    names: list[str] = []
    """These subjects, in place of a share."""


class TrainOneshot(Block):
    sizes: Literal["small", "published"] = "small"
    """`small`: 128 pixels, for a CPU; `published`: the released model's, 512 pixels, 168 M parameters."""
    variant: Literal["full", "one_plane", "no_global_feature", "no_renderer", "no_photo_colors"] = "full"
    """The method, or an ablation of its Table 3; the one without the lifting loss is lambda_lifting 0."""
    max_vertices: PositiveInt = 2500
    """Vertices of the head that carry Gaussians: all, or so many spread evenly."""
    steps: Annotated[int, Field(ge=0)] = 30
    """0: no model is trained, for projects whose people get avatars of their own alone."""
    batch: PositiveInt = 4
    """Pairs of a step, of all workers together."""
    learning_rate: PositiveFloat = 5e-4
    """Adam's, falling along a line to a tenth; the published training has 1e-4."""
    momentum: Fraction = 0.9
    """Adam's first beta; the published training has 0. The second is 0.99."""
    ema: Fraction = 0.999
    """Decay of the moving average of the weights, which is what is saved and judged."""
    clip_norm: PositiveFloat = 1.0
    """The gradient's largest norm."""
    precision: Literal["float32", "bfloat16"] = "float32"
    lambda_box: Annotated[float, Field(ge=0.0)] = 1.0
    lambda_perceptual: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of the perceptual term inside the head's box (the published training: 0.01); its weights are
    train_headgas.perceptual_weights."""
    lambda_lifting: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of the distance from the head's vertices to the lifted points."""
    backbone_weights: str = ""
    """DINOv2's dinov2_vitb14_pretrain.pth for `published`: loaded, and kept as it is. Empty: the transformer learns too."""
    start_from: str = ""
    """A model's folder, such as `headwater import gagavatar` writes, whose weights are the first ones. Its sizes, variant and
    vertices are kept; those of this block then mean nothing."""
    test_subjects: KeptOut = KeptOut()
    color_jitter: Annotated[float, Field(ge=0.0, lt=0.67)] = 0.0
    """Share by which the colours of each pair are changed at most, photo and target alike; the published training: 0. It helps
    where few people are trained on."""
    probes: Annotated[int, Field(ge=0)] = 5
    """How often pairs of test subjects are rendered while training goes on."""
    checkpoint_every: Annotated[int, Field(gt=0, multiple_of=10)] = 100
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _weights_come_from_one_place(self) -> TrainOneshot:
        if self.start_from and self.backbone_weights:
            raise ValueError(
                "train_oneshot.start_from has a transformer of its own: leave train_oneshot.backbone_weights empty"
            )
        if self.start_from and Path(self.start_from).resolve() == ONESHOT_MODEL.resolve():
            raise ValueError(
                f"train_oneshot.start_from: {self.start_from} is what this stage makes, and DVC takes it away before; "
                f"copy it first, cp -r {ONESHOT_MODEL} models/first, and name the copy"
            )
        return self


class TrainNphm(Block):
    scans: Literal["procedural", "ict", "flame", "nphm"] = "procedural"
    """The head model whose made-up people are the registered scans; or the registrations of the NPHM dataset."""
    head_file: str = ""
    """The model's own file, for ict and flame; NPHM's folder of SUBJECT/EXPRESSION/registration.ply."""
    people: PositiveInt = 80
    """To train on; at most, of nphm."""
    unseen: PositiveInt = 10
    """People kept for judging."""
    mixtures: Annotated[int, Field(ge=0)] = 100
    """Random mixtures of expressions, beside neutral, each expression alone and three openings of the jaw; not of nphm."""
    sizes: Literal["small", "medium", "published"] = "small"
    steps: Annotated[int, Field(ge=0)] = 0
    """0: no prior is trained."""
    batch: PositiveInt = 8
    """Scans of a step, of all processes together."""
    points: PositiveInt = 250
    """On the surface of each scan."""
    around: PositiveInt = 60
    """In the ball around it."""
    learning_rate: PositiveFloat = 1e-3
    """AdamW's, falling along a cosine to a fiftieth."""
    code_rate: PositiveFloat = 4e-3
    """The codes' own."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 1e-4
    clip_norm: PositiveFloat = 1.0
    probes: Annotated[int, Field(ge=0)] = 4
    """How often unseen people are fitted while training goes on."""
    checkpoint_every: Annotated[int, Field(gt=0, multiple_of=10)] = 500
    seed: Annotated[int, Field(ge=0)] = 0


class TrackNphm(Block):
    subjects: list[str] = []
    """Whose clips are tracked; none named: everybody's."""
    clouds: Literal["head", "views", "files"] = "head"
    """What the neural head is fitted to: the surface of each clip's own fit, what several calibrated cameras saw, found by a
    plane sweep (clips of one camera have their fit), or the user's files."""
    cloud_files: str = ""
    """For files: a folder of SUBJECT/SEQUENCE/FRAME.ply."""
    key_frames: PositiveInt = 5
    """Frames of each subject, of all clips together, that its identity comes of."""
    smoothness: Annotated[float, Field(ge=0.0)] = 0.0
    """Square metres that the squared step of an expression's code from frame to frame costs."""
    photometric: bool = False
    """Whether the heads of clips that one camera saw are refined with the pictures themselves: docs/nphm.md."""
    max_misfit: PositiveFloat = 0.002
    """Root of the mean squared distance of a frame's cloud, metres, up to which it is read by training. Distances count up to
    4 mm there, so that no misfit is larger. Of a segment preprocess.gates.min_frames are wanted."""
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _pictures_leave_no_clouds_behind(self) -> TrackNphm:
        if self.photometric and self.clouds == "files":
            raise ValueError(
                "track_nphm.photometric = true and track_nphm.clouds = files: pictures know nothing of your clouds and would "
                "move heads off them; set photometric: false, or another kind of clouds"
            )
        return self


class DistillForward(Block):
    steps: Annotated[int, Field(ge=0)] = 0
    """0: no forward field is distilled. It needs a prior, train_nphm."""
    people: PositiveInt = 20
    """Of those that the prior was trained on, at most."""
    batch: PositiveInt = 16
    """Heads of a step, of all processes together."""
    points: PositiveInt = 150
    """Near the surface of each head."""
    hidden: PositiveInt = 64
    """Width of the field's six layers."""
    learning_rate: PositiveFloat = 3e-3
    """Adam's, falling along a cosine to a hundredth."""
    plane_rate: PositiveFloat = 3e-3
    """The planes' own."""
    lambda_offset: Annotated[float, Field(ge=0.0)] = 1e-4
    lambda_variation: Annotated[float, Field(ge=0.0)] = 1e-3
    clip_norm: PositiveFloat = 1.0
    held_out: Fraction = 0.1
    """Share of each person's expressions that the field is judged by."""
    probes: Annotated[int, Field(ge=0)] = 4
    """How often it is judged while training goes on."""
    checkpoint_every: Annotated[int, Field(gt=0, multiple_of=10)] = 500
    seed: Annotated[int, Field(ge=0)] = 0


class TrainNpga(Block):
    steps: Annotated[int, Field(ge=0)] = 0
    """0: no avatar is trained. It needs a prior, its tracks and its forward field."""
    variant: Literal["full", "rigged", "no_screen", "vanilla"] = "full"
    """The method; Gaussians that ride on the surface as the forward field moves it; no network on the picture; or no features
    of the Gaussians either."""
    num_gaussians: PositiveInt = 10000
    """On the surface of the neural head at the start."""
    density: Density = Density(max_gaussians=20000, decay=0.99, gradient=4e-4)
    gradient_power: PositiveFloat = 2.0
    """Of the mean of screen-space gradients over the views, the paper's e; 1: the plain mean, as in 3DGS."""
    resolution: PositiveInt = 256
    hidden: PositiveInt = 64
    """Width of the six layers of the detailed field."""
    latent_dim: PositiveInt = 8
    """Channels beside RGB that the network on the picture reads."""
    screen_width: PositiveInt = 16
    """Of that network."""
    neighbours: PositiveInt = 4
    """Of each Gaussian, in the Laplacian terms."""
    lambda_l1: Annotated[float, Field(ge=0.0)] = 0.8
    lambda_ssim: Annotated[float, Field(ge=0.0)] = 0.2
    lambda_laplacian: Annotated[float, Field(ge=0.0)] = 0.01
    """Of the features, and of all that the detailed field changes."""
    lambda_coarse: Annotated[float, Field(ge=0.0)] = 1e-3
    """Of the forward field's offsets, centimetres squared."""
    lambda_detail: Annotated[float, Field(ge=0.0)] = 1e-3
    learning_rate: PositiveFloat = 5e-3
    """Of the Gaussians' scales and colours."""
    coarse_rate: PositiveFloat = 4e-5
    """Of the forward field."""
    coarse_still: Fraction = 0.1
    """Share of the steps before that field changes."""
    detail_rate: PositiveFloat = 2e-3
    """Of the detailed field, and of the network on the picture."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.1
    """Of all networks."""
    clip_norm: PositiveFloat = 1.0
    """Of the networks' gradient."""
    background: Literal["white", "black"] = "white"
    max_judged: PositiveInt = 100
    """Held-out frames at most."""
    probes: Annotated[int, Field(ge=0)] = 4
    checkpoint_every: Annotated[int, Field(gt=0, multiple_of=10)] = 500
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def batch(self) -> int:
        """Shots of a step."""
        return 1


class Evaluate(Block):
    max_frames: PositiveInt = 100
    """Held-out frames rendered per subject at most."""
    align_steps: PositiveInt = 15
    """Steps by which each frame's pose is moved to fit the finished avatar, for the figures called aligned."""
    lpips_weights: str = ""
    """LPIPS's own weights, vgg.pth of version 0.1 (docs/headgas.md): with train_headgas.perceptual_weights they give the
    figures lpips and aligned_lpips. Empty: no such figures."""
    csim_weights: str = ""
    """The ONNX file of a network that recognises faces, for CSIM of all avatars' reenactments. Empty: no such figure."""
    csim_network: CsimNetwork = "sface"
    """What the file is: OpenCV's SFace (face_recognition_sface_2021dec.onnx), or a network of the ArcFace kind, which is fed
    other colours."""
    max_cross_pairs: Annotated[int, Field(ge=0)] = 8
    """Cross-reenactment videos at most. Each avatar is driven by the next subject, then by the one after, until all pairs are
    there: three subjects have six."""


class Report(Block):
    title: str = "Headwater report"
    max_subjects: PositiveInt = 24
    """Subjects shown with players; the tables always hold all of them."""


class Tracking(Block):
    """MLflow: MLFLOW_TRACKING_URI overrides the uri."""

    uri: str = "sqlite:///mlflow.db"
    experiment: str = "headwater"


class Params(Block):
    source: Source
    compute: Compute = Compute()
    tracking: Tracking = Tracking()
    catalog: Catalog = Catalog()
    preprocess: Preprocess = Preprocess()
    train_headgas: TrainHeadgas = TrainHeadgas()
    train_oneshot: TrainOneshot = TrainOneshot()
    train_nphm: TrainNphm = TrainNphm()
    track_nphm: TrackNphm = TrackNphm()
    distill_forward: DistillForward = DistillForward()
    train_npga: TrainNpga = TrainNpga()
    evaluate: Evaluate = Evaluate()
    report: Report = Report()

    @model_validator(mode="after")
    def _trained_on_what_is_stored(self) -> Params:
        size, wanted = self.preprocess.crop.side, {"train_headgas": self.train_headgas.resolution}
        if self.train_npga.steps:
            wanted["train_npga"] = self.train_npga.resolution
        for stage, resolution in wanted.items():
            if resolution > size:
                raise ValueError(
                    f"{stage}.resolution = {resolution} is larger than the stored crops, preprocess.crop.side = {size}"
                )
        return self

    @model_validator(mode="after")
    def _oneshot_pictures_are_stored(self) -> Params:
        side, wanted = self.preprocess.crop.side, PICTURE_SIDES[self.train_oneshot.sizes]
        if wanted > side:
            raise ValueError(
                f"train_oneshot.sizes = {self.train_oneshot.sizes} makes pictures of {wanted} pixels, more than the stored "
                f"crops have, preprocess.crop.side = {side}"
            )
        return self

    @model_validator(mode="after")
    def _each_worker_has_a_sample(self) -> Params:
        for stage, batch, name, count in (
            ("train_oneshot", self.train_oneshot.batch, "oneshot", self.compute.oneshot.count),
            ("train_nphm", self.train_nphm.batch, "nphm", self.compute.nphm.count),
            ("distill_forward", self.distill_forward.batch, "forward", self.compute.forward.count),
        ):
            if count > batch:
                raise ValueError(
                    f"compute.{name}.count = {count} processes share {stage}.batch = {batch} samples: raise the batch"
                )
        return self


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Reads and checks params.yaml.

    Raises ParamsError with the file, the place, the value and the way out: for a missing file, broken YAML, an
    unknown key (with the nearest known key) and a value out of range.
    """
    try:
        raw = read_yaml(path)
    except FileNotFoundError:
        raise ParamsError(
            f"{path}: not found. Run from the project's folder, or get the file back: git checkout params.yaml"
        ) from None
    except YamlFileError as error:
        raise ParamsError(str(error)) from None
    if not isinstance(raw, dict):
        raise ParamsError(
            f"{path}: expected a mapping of blocks ({', '.join(Params.model_fields)}), found {type(raw).__name__}"
        )
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        lines = [explain(detail, Params) for detail in error.errors()]
        raise ParamsError(f"{path}: " + "; ".join(lines)) from None


def explain(detail: Any, root: type[Block]) -> str:
    """One of pydantic's errors as a person would say it: the place, the value, and the nearest known key."""
    place = [str(part) for part in detail["loc"]]
    if detail["type"] == "extra_forbidden":
        known = _known_keys(place[:-1], root)
        near = difflib.get_close_matches(place[-1], known, n=1, cutoff=0.0)
        return f"unknown key '{'.'.join(place)}'. Did you mean '{'.'.join([*place[:-1], *near])}'?"
    if detail["type"] == "missing":
        return f"'{'.'.join(place)}' is missing"
    if detail["type"] == "value_error":  # a rule over several blocks: its message names them
        return str(detail["msg"]).removeprefix("Value error, ")
    message = "a block of `name: value` was expected" if detail["type"] == "model_type" else detail["msg"]
    return f"'{'.'.join(place)}' = {detail['input']!r}: {message}"


def _known_keys(place: list[str], block: type[BaseModel]) -> list[str]:
    for part in place:
        if part.isdigit():  # a place in a list
            continue
        annotation = block.model_fields[part].annotation
        inner = next(iter(get_args(annotation)), annotation)
        assert isinstance(inner, type) and issubclass(inner, BaseModel)
        block = inner
    return list(block.model_fields)
