"""The configuration: frozen sections, one a stage, read from `params.yaml` + overlays + `key=value` overrides and checked once.

Config objects stop at `components/`; library functions take flat arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from synfer.errors import SynferError
from synfer.training_sets import check_training_set
from synfer.vocabulary import DEFAULT_EXPRESSIONS, check_expression, unknown

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Strength = Annotated[float, Field(ge=0.0)]
Precision = Annotated[Literal["no", "fp16", "bf16"], BeforeValidator(lambda value: "no" if value is False else value)]
"""YAML reads a bare `no` as false."""


def _gpus(value: Any) -> Any:
    """Ray shares one GPU among several actors, or gives an actor several whole ones."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value != "auto" and not (number and (0 <= value <= 1 or (value > 1 and value % 1 == 0))):
        raise ValueError("give auto, a share of one GPU such as 0.25, or a whole number of GPUs")
    return value


Gpus = Annotated[float | Literal["auto"], BeforeValidator(_gpus)]

TrainingSet = Annotated[str, AfterValidator(check_training_set)]

Expressions = Annotated[tuple[str, ...], BeforeValidator(lambda names: tuple(check_expression(name) for name in names))]


class ConfigError(SynferError):
    """A configuration that names an unknown key or file, or holds a value out of range."""


class Section(BaseModel):
    """A frozen section; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Common(Section):
    """What every stage may need."""

    seed: int = Field(0, description="root of every random choice; a sample's own seed is derived from it")
    expressions: Expressions = Field(DEFAULT_EXPRESSIONS, description="the classes, in canonical order")
    image_size: Positive = Field(64, description="side of the images in pixels")
    device: str = Field("auto", description="auto (CUDA when present), cpu, cuda, cuda:1")
    threads: Count = Field(0, description="torch threads; 0 leaves torch's own choice")


class Sharded(Section):
    """A stage whose images go through networks shard by shard; who works the shards off changes no result."""

    executor: Literal["local", "ray"] = Field("local", description="local (here) or ray (actors of Ray, docs/scale.md)")
    actors: Positive = Field(1, description="ray: processes that work at once, each with networks of its own")
    gpus_per_actor: Gpus = Field("auto", description="ray: GPUs an actor, 0.25 for four on one, 0 for none; auto is 1 on CUDA")
    ray_address: str | None = Field(None, description="ray: auto or host:port of a cluster; null starts Ray here for the stage")


EXECUTION = frozenset(Sharded.model_fields)
"""Keys that say how and not what: another value rebuilds nothing and leaves finished shards finished."""


class Corpus(Section):
    """Stage corpus: which real images take part."""

    source: str = Field("data/faces", description="dataset folder with manifest.parquet and image shards")
    train: Count = Field(0, description="use at most this many training images, 0 for all")
    val: Count = Field(0, description="use at most this many validation images, 0 for all")
    test: Count = Field(0, description="use at most this many test images, 0 for all")


class FerModels(Section):
    """Stage fer_models: guide, annotators and judge, with disjoint training identities and different architectures."""

    source: str = Field("assets/fer", description="folder of trained models, or 'train' to train them on the corpus")
    guide: str = Field("resnet10t", description="timm architecture of the guide")
    annotators: tuple[str, ...] = Field(("resnet18d", "resnet14t"), description="timm architectures of the annotators")
    judge: str = Field("skresnet18", description="timm architecture of the judge")
    epochs: Positive = Field(12, description="epochs when trained on the corpus")
    batch_size: Positive = 32
    learning_rate: float = Field(2e-3, gt=0)


class Generator(Section):
    """Stage generator: the diffusion backbone and how it is adapted."""

    backbone: str = Field("assets/tiny-sd", description="diffusers folder: unet, vae, text_encoder, tokenizer, scheduler (and au_adapter)")
    adapt: Literal["none", "adapter", "lora", "full"] = Field(
        "none", description="none keeps the weights; adapter trains the AU adapter alone, lora and full the U-Net with it"
    )
    steps: Positive = Field(2000, description="optimiser steps of fine-tuning")
    batch_size: Positive = Field(64, description="images a forward pass")
    gradient_accumulation: Positive = Field(1, description="forward passes an optimiser step: batches that memory cannot hold")
    mixed_precision: Precision = Field("no", description="no, bf16, or fp16 (GPU only); weights that train stay in float32")
    gradient_checkpointing: bool = Field(False, description="recompute activations: less memory, about a third more time")
    learning_rate: float = Field(3e-4, gt=0)
    lora_rank: Positive = 8
    train_text_encoder: bool = Field(False, description="fine-tune the text encoder too; under lora or full")
    flips: bool = Field(True, description="also learn from mirrored images; left and right AUs and words change places")
    au_dropout: Share = Field(0.15, description="share of samples trained without AUs")
    caption_dropout: Share = Field(0.1, description="share of samples trained without caption")
    min_snr_gamma: float = Field(5.0, gt=0, description="min-SNR weighting (Hang et al. 2023)")
    validate_every: Count = Field(500, description="steps between looks at drawn faces, whom the guide rates; 0 for none")
    validation_images: Positive = Field(70, description="faces drawn at each look, the same ones each time")
    guide_steps: Count = Field(0, description="steps of a latent guide trained on the corpus; 0 keeps the backbone's own, if it has one")

    @field_validator("train_text_encoder")
    @classmethod
    def _text_encoder_needs_a_base_that_trains(cls, wanted: bool, info: ValidationInfo) -> bool:
        if wanted and info.data.get("adapt") not in ("lora", "full"):
            raise ValueError(f"it goes with adapt lora or full, not {info.data.get('adapt')}")
        return wanted


class Feranno(Sharded):
    """Stage feranno: the pseudo-label head on diffusion features."""

    timestep: Count = Field(10, description="noise level at which features are read; small ones keep the expression")
    train_images: Count = Field(2400, description="training images whose features are computed, 0 for all")
    epochs: Positive = 8
    batch_size: Positive = 64
    learning_rate: float = Field(2e-3, gt=0)
    width: Positive = Field(64, description="width of the two encoders and the fusion block, a multiple of 4")
    au_weight: float = Field(3.0, ge=0, description="weight of the AU loss beside the expression's, 0 for no AU head")


class Synthesis(Sharded):
    """Stage synthesis: how many faces, and how they are steered."""

    images: Positive = Field(1400, description="number of generated images, spread evenly over the expressions; a plan says its own")
    series: int = Field(0, ge=0, description="another number draws other faces of the same plan; 0 is the seed alone")
    plan: str = Field("", description="plan of configs/plans, or YAML file, that asks for faces by cell; '' for none")
    have: tuple[str, ...] = Field((), description="releases whose faces count for the plan: only what is missing is drawn")
    batch_size: Positive = 70
    sampler: Literal["dpm", "ddim"] = Field("dpm", description="dpm (DPM-Solver++, few steps) or ddim")
    num_inference_steps: Positive = 10
    guidance_scale: float = Field(3.0, ge=0, description="classifier-free guidance of the caption")
    au_guidance_scale: float = Field(3.0, ge=0, description="classifier-free guidance of the AUs; equal scales need one forward less")
    cfg_interval: tuple[Share, Share] = Field((0.2, 0.6), description="share of the denoising in which guidance acts, 0 is all noise")
    au_cfg_interval: tuple[Share, Share] = Field((0.2, 0.8), description="the same for the scale of the AUs; to 1 makes weak AUs strong")
    semantic_guidance: float = Field(0.05, ge=0, description="lambda: step along the unit gradient in shares of the norm; 0 is off")
    guidance_form: Literal["latent", "published"] = Field("latent", description="latent (the backbone's own guide) or published (pixels)")
    guidance_confidence: Share = Field(0.8, description="latent form: samples whose guide is surer than this are left alone")
    guidance_every: Positive = Field(1, description="latent form: guide at every n-th step")
    guidance_window: tuple[Share, Share] = Field((0.2, 0.6), description="share of the denoising during which semantic guidance acts")
    layout: Literal["none", "inversion"] = Field("none", description="inversion: start from a training face, which the manifest names")
    layout_strength: Share = Field(1.0, description="weight of the inverted face in the noise to start from; 0 is fresh noise")
    layout_steps: int = Field(20, ge=1, le=1000, description="steps of the inversion, one forward each")
    shard_images: Positive = Field(350, description="images a shard; a finished shard is not repeated after a kill")

    @field_validator("cfg_interval", "au_cfg_interval", "guidance_window")
    @classmethod
    def _begins_before_it_ends(cls, interval: tuple[float, float]) -> tuple[float, float]:
        if interval[0] > interval[1]:
            raise ValueError("it begins after it ends; 0 is the noisiest step, 1 the end of the denoising")
        return interval


class Rectification(Sharded):
    """Stage rectification: from member probabilities to a label, an action and a reason."""

    pool: Literal["logarithmic", "mean", "majority"] = Field("logarithmic", description="how the members are pooled")
    intent_strength: Strength | Literal["auto"] = Field("auto", description="weight of the intent: 1 is Bayes' rule, auto lets val choose")
    target_precision: float = Field(0.95, gt=0, lt=1, description="label precision wanted on val; thresholds are chosen from it")
    min_coverage: float = Field(
        0.5, gt=0, le=1, description="share of val that must stay labelled where the wanted precision is out of reach"
    )
    au_consistency: bool = Field(True, description="a face that grossly contradicts its asked AUs is not asserted")
    batch_size: Positive = 128


class Validation(Section):
    """Stage validation: the gate. A critical expectation that fails stops everything after it."""

    min_kept: Share = Field(0.5, description="critical: share of images that rectification keeps")
    min_agreement: Share = Field(0.6, description="critical: share of intents that the rectified label confirms")
    max_imbalance: float = Field(3.0, ge=1, description="warning: largest class over smallest")
    min_per_class: Count = Field(20, description="critical: images of the rarest class")
    max_duplicates: Share = Field(0.02, description="warning: share of near-duplicates by perceptual hash")
    previous: str = Field("", description="release that the images are compared with; '' for none")
    max_label_drift: Share = Field(0.1, description="warning: share of labels that would have to change to be spread as before")
    max_kept_drift: Share = Field(0.1, description="warning: change of the share kept")
    max_au_drift: float = Field(0.5, ge=0, description="warning: change of the mean intensity of any asked AU")
    max_drift: float = Field(0.3, ge=0, description="warning: change of mean certainty and look, in standard deviations")


class Classifiers(Section):
    """Stage classifiers: what is trained on the data."""

    backbone: str = Field("resnet10t", description="timm architecture")
    training_sets: tuple[TrainingSet, ...] = Field(
        ("real", "synthetic", "real+synthetic"), description="also real:1+synthetic:3 (a ratio), synthetic>real (pre-train, fine-tune)"
    )
    train_images: Count = Field(0, description="real training images at most, 0 for as many as there are synthetic ones (equal budget)")
    epochs: Positive = 10
    steps: Count = Field(0, description="optimiser steps of every training set (equal budget); 0: epochs over its own images")
    batch_size: Positive = 32
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    label_smoothing: Share = 0.05
    class_balanced: bool = Field(False, description="draw every class as often as another")
    mixup: float = Field(0.0, ge=0, description="alpha of MixUp, 0 for none; 0.2 is usual")
    randaugment: int = Field(0, ge=0, le=30, description="magnitude of RandAugment, 0 for none; 9 is usual")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of features dropped before the last layer")
    drop_path: float = Field(0.0, ge=0, lt=1, description="share of residual branches dropped, where timm has it for the backbone")
    patience: Count = Field(0, description="epochs without a better UAR on val after which a training stops, 0 for never")
    precision: Precision = Field("no", description="no, bf16, or fp16 (GPU only): precision of the forward pass")
    pretrain: Literal["none", "simclr", "byol", "mocov3", "mae"] = Field(
        "none", description="self-supervised start on its own images: none, simclr, byol, mocov3, mae (ViT only)"
    )
    pretrain_epochs: Positive = 20
    pretrain_batch_size: int = Field(128, ge=2)


class Evaluation(Section):
    """Stage evaluation: metrics on the real test split, with intervals."""

    bootstrap: Positive = Field(1000, description="bootstrap resamples of an interval")
    confidence: Share = 0.95
    judged_images: Count = Field(700, description="generated images that the judge rates, 0 for all")


class Audit(Section):
    """Stage audit: the verdict that travels with a release. A limit is broken where the whole interval lies beyond it."""

    faces: Positive = Field(300, description="generated faces that are compared with as many training faces and as many unseen ones")
    max_memorised: Share = Field(0.55, description="critical: share nearer to a training face than to an unseen one; 0.5 is chance")
    max_change: Share = Field(0.1, description="warning: change of a group's share of the images by rejection")
    max_gap: Share = Field(0.1, description="warning: judge accuracy of the best group of people minus the worst")
    min_group: Positive = Field(30, description="images below which a group is too small to say anything")
    max_duplicates: Share = Field(0.02, description="warning: share of images that repeat another one")
    min_cells: Share = Field(0.9, description="warning: share of the asked cells (expression x AU x attribute) with an image")


class Release(Section):
    """Stage release: the published dataset."""

    name: str = Field("laptop", pattern=r"^[a-z0-9][a-z0-9._-]*$", description="folder under data/synthetic")
    license: str = "CC-BY-4.0"


class Registration(Section):
    """Stage registration: the model that MLflow offers for promotion, and the gate before it."""

    model_name: str = "synfer-classifier"
    training_set: TrainingSet = "real+synthetic"
    min_uar: Share = Field(0.5, description="UAR on the test split that a challenger needs")
    max_ece: Share = Field(0.25, description="calibration error that a challenger may have")
    max_uar_drop: Share = Field(0.01, description="UAR that a challenger may lose against the champion, on the same faces")
    max_class_drop: Share = Field(0.05, description="recall that a class may lose; beyond it counts if the interval excludes 0")


class Studies(Section):
    """Studies (`synfer study`): how large they are, and the rates from which a dry run estimates their cost."""

    seeds: Positive = Field(3, description="trainings of every arm, each with a seed of its own")
    labelled: float = Field(0.1667, gt=0, le=1, description="share of the training faces whose labels are known; the rest is a control")
    steps: Positive = Field(600, description="optimiser steps of a classifier, the same in all arms of a study")
    multiples: tuple[Positive, ...] = Field((1, 2, 3, 4, 5), min_length=1, description="scaling: generated faces for each labelled one")
    real_shares: tuple[Share, ...] = Field((0.01, 0.05, 0.1, 0.25, 1.0), min_length=1, description="low_data: shares of the labelled faces")
    randaugment: Positive = Field(9, description="low_data: magnitude of RandAugment in the arm of strong augmentation")
    mixup: float = Field(0.2, ge=0, description="low_data: alpha of MixUp in the arm of strong augmentation")
    methods: tuple[Literal["simclr", "byol", "mocov3", "mae"], ...] = Field(
        ("simclr",), min_length=1, description="representation, few_shot: simclr, byol, mocov3, mae"
    )
    vit: str = Field("vit_tiny_patch16_224", description="representation, few_shot: timm architecture for mae, a plain vision transformer")
    pretrain_steps: Positive = Field(150, description="representation, few_shot: optimiser steps of a pre-training, about")
    shots: tuple[Positive, ...] = Field((1, 5), min_length=1, description="few_shot: labelled faces of a class in an episode")
    queries: Positive = Field(5, description="few_shot: faces of a class to classify in an episode")
    episodes: Positive = Field(200, description="few_shot: episodes of every encoder")
    compound_faces: Count = Field(20, description="few_shot: rendered faces of every compound expression, 0 for none")
    image_text_steps: Positive = Field(200, description="zero_shot: optimiser steps of the training on images and captions, about")
    expected_train: Count = Field(0, description="training images that a dry run assumes where the corpus is not here, 0 to refuse")
    drawn_per_second: float = Field(6.0, gt=0, description="cost: faces drawn and rectified a second, as measured on `machine`")
    trained_per_second: float = Field(200.0, gt=0, description="cost: images that a classifier learns from a second")
    pretrained_per_second: float = Field(100.0, gt=0, description="cost: images that any other training goes through a second")
    adapted_per_second: float = Field(40.0, gt=0, description="cost: images that the generator learns from a second")
    machine: str = Field("two laptop cores", description="cost: the machine that the rates are of")


class Config(Section):
    """All sections; the whole of `params.yaml`."""

    common: Common = Common()
    corpus: Corpus = Corpus()
    fer_models: FerModels = FerModels()
    generator: Generator = Generator()
    feranno: Feranno = Feranno()
    synthesis: Synthesis = Synthesis()
    rectification: Rectification = Rectification()
    validation: Validation = Validation()
    classifiers: Classifiers = Classifiers()
    evaluation: Evaluation = Evaluation()
    audit: Audit = Audit()
    release: Release = Release()
    registration: Registration = Registration()
    studies: Studies = Studies()


def load_config(
    params: Path, *, overlays: Sequence[str] = (), overrides: Sequence[str] = (), configs: Path | None = None
) -> Config:
    """Merge `params`, then each overlay (a name under `configs`, or a path to YAML), then `section.key=value` overrides; check once.

    Raises ConfigError naming the file or key and the known ones.
    """
    folder = configs or params.parent / "configs"
    merged = _read_yaml(params)
    for overlay in overlays:
        merged = deep_merge(merged, _read_yaml(_overlay_path(overlay, folder)))
    for override in overrides:
        merged = deep_merge(merged, parse_override(override))
    return validate(merged)


def validate(values: Mapping[str, Any]) -> Config:
    """The checked configuration of nested values; raises ConfigError naming the first key and value that are wrong."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error


def deep_merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `base` in which the mappings of `over` are merged and its other values replace."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = deep_merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def parse_override(text: str) -> dict[str, Any]:
    """`synthesis.images=100` as nested values; the value is read as YAML. Raises ConfigError without an equals sign."""
    keys, equals, value = text.partition("=")
    if not equals or not keys.strip():
        raise ConfigError(f"override {text!r} is not SECTION.KEY=VALUE, for example synthesis.images=700")
    nested: Any = yaml.safe_load(value)
    for key in reversed(keys.strip().split(".")):
        nested = {key: nested}
    return nested


def overlay_names(configs: Path) -> list[str]:
    """Names of the overlays under a folder, `ablations/no_au` for a nested one; plans of faces are none."""
    found = (path.relative_to(configs) for path in configs.rglob("*.yaml"))
    return sorted(path.with_suffix("").as_posix() for path in found if path.parts[0] != "plans")


def _overlay_path(overlay: str, configs: Path) -> Path:
    if overlay in (names := overlay_names(configs)):
        return configs / f"{overlay}.yaml"
    if overlay.endswith((".yaml", ".yml")) and Path(overlay).is_file():
        return Path(overlay)
    raise ConfigError(unknown("overlay", overlay, names))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise ConfigError(f"configuration file {path} does not exist") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold sections, found {type(values).__name__}")
    return values


_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "string": "text"}


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        section = Config.model_fields.get(str(first["loc"][0])) if len(first["loc"]) > 1 else None
        model = section.annotation if section is not None else Config
        known = model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else Config.model_fields
        return unknown("key", where, (".".join([*map(str, first["loc"][:-1]), name]) for name in known))
    kind = _KINDS.get(first["type"].partition("_")[0]) if first["type"].endswith(("_parsing", "_type", "_from_float")) else None
    why = f"must be {kind}" if kind else first["msg"].replace("Input should be", "must be")
    return f"{where} = {first['input']!r}: {why}"
