"""`synfer sample`: a few generated faces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.project import Overlays, Overrides, console, load_project


def sample(
    expression: Annotated[
        list[str] | None, typer.Argument(help="An expression (happiness), a compound one (happily surprised), or none.")
    ] = None,
    au: Annotated[list[str] | None, typer.Option(metavar="AU=INTENSITY", help="An AU to show, 0..5: 12=3, L12=2.")] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="The person: age=elderly, sex=man, glasses=glasses, hair_color=red, ...")
    ] = None,
    caption: Annotated[str | None, typer.Option(help="Caption instead of the one that names person, expression and AUs.")] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(metavar="AU=FROM..TO[:COLUMNS]", help="A row in which only this AU changes: 12=0..5, L12=0..5:11; may be repeated."),
    ] = None,
    n: Annotated[int | None, typer.Option("-n", min=1, max=256, help="How many faces (8), or people a sweep (1).")] = None,
    seed: Annotated[int, typer.Option(help="Other people.")] = 0,
    guidance_scale: Annotated[float | None, typer.Option(help="Classifier-free guidance of the caption.")] = None,
    au_guidance_scale: Annotated[float | None, typer.Option(help="Classifier-free guidance of the AUs.")] = None,
    semantic_guidance: Annotated[float | None, typer.Option(help="Strength of the guide, 0 for none; a sweep has none by default.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    sampler: Annotated[str | None, typer.Option(help="dpm or ddim.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for sheet, PNGs and manifest; an earlier sample is replaced.")] = Path("samples/faces"),
    config: Overlays = None,
    set_: Overrides = None,
) -> None:
    """Generate faces and show them on one sheet.

    Asked AUs join those of the expression; what excludes one of them gives way.

    Along a sweep seed, person and caption stay, and every AU is relaxed but the swept and the asked ones.

    AUs and attributes may be repeated or joined by commas.

    [bold]Examples[/bold]

    synfer sample happiness

    synfer sample happily surprised -n 4

    synfer sample surprise --au 12=4,L2=3 --seed 1

    synfer sample --au R12=3 --attribute sex=man,age=elderly --attribute glasses=glasses

    synfer sample --caption "an elderly man with a beard, angry expression" --out samples/anger

    synfer sample --sweep 12=0..5

    synfer sample --sweep 12=0..5:11 --sweep 4=0..5:11 --au 25=2 -n 2

    synfer sample fear --guidance-scale 5 --au-guidance-scale 2 --semantic-guidance 0.1 --steps 25 --sampler ddim
    """
    workspace, settings = load_project(config, set_)
    from components.sample_folder import check_replaceable
    from synfer.prompt import make_prompt, parse_attributes
    from synfer.vocabulary import parse_aus

    # told before the seconds that torch takes to import
    asked = parse_aus(",".join(au or ()))
    prompt = make_prompt(
        " ".join(expression or ()), aus=asked, attributes=parse_attributes(attribute or ()), caption=caption, sweeps=sweep or ()
    )
    check_replaceable(out)
    from components.sampling import Sampler

    given = {
        "guidance_scale": guidance_scale, "au_guidance_scale": au_guidance_scale, "semantic_guidance": semantic_guidance,
        "num_inference_steps": steps, "sampler": sampler,
    }  # fmt: skip
    changed = {name: value for name, value in given.items() if value is not None}
    faces = Sampler.of_project(settings, workspace).draw(prompt, n=n, seed=seed, **changed)
    console().print(str(faces.save(out)))
