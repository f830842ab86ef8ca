"""Pages of Prefect: tables in Markdown, pictures inside the text."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pandas as pd
from PIL import Image

from components.record import Record, Table
from flows.artifacts import data_uri, markdown_table, stage_page


def test_page_holds_tables_and_pictures_of_the_stage(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.table("Counts", pd.DataFrame({"class": ["fear", "joy | delight"], "share": [0.25, 0.75]}))
    record.figure("sheet", Image.new("RGB", (2000, 1000), (250, 10, 10)), title="Faces", caption="All red.")
    record.save()
    page = stage_page("synthesis", tmp_path)
    assert "| class | share |\n| --- | --- |\n| fear | 0.250 |\n| joy \\| delight | 0.750 |" in page
    assert "All red." in page
    encoded = page.split("data:image/jpeg;base64,")[1].split(")")[0]
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        assert picture.size == (900, 450)
        red, green, blue = picture.getpixel((3, 3))  # type: ignore[misc]
    assert red > 200 > 60 > max(green, blue)


def test_long_tables_are_cut_and_say_so() -> None:
    table = Table("Rows", ("n",), tuple((str(number),) for number in range(50)))
    assert markdown_table(table).splitlines()[-1] == "| ... 10 more |"


def test_data_uri_of_a_small_picture_keeps_its_size(tmp_path: Path) -> None:
    Image.new("RGBA", (30, 20)).save(tmp_path / "a.png")
    with Image.open(io.BytesIO(base64.b64decode(data_uri(tmp_path / "a.png").split(",")[1]))) as picture:
        assert picture.size == (30, 20)
