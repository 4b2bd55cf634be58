"""Data sets: what is decoded, how it is kept, and what a user hears when it cannot be used."""

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from nodelens.data import decoded
from nodelens.data.datasets import ImageSet, holdout, load_images
from nodelens.data.sources import stratified
from nodelens.errors import InputError

REAL_DATA = os.environ.get("NODELENS_DATA")
needs_cifar100 = pytest.mark.skipif(
    REAL_DATA is None or not (Path(REAL_DATA) / "cifar100").is_dir(),
    reason="needs a folder cifar100 in NODELENS_DATA",
)
needs_flowers102 = pytest.mark.skipif(
    REAL_DATA is None or not (Path(REAL_DATA) / "flowers102").is_dir(),
    reason="needs a folder flowers102 in NODELENS_DATA",
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for every test, and no local copies but those that a test makes."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("NODELENS_CACHE", str(folder))
    monkeypatch.delenv("NODELENS_DATA", raising=False)
    return folder


def noise(seed: int, height: int = 8, width: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_png(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def png_bytes(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def pixels_of(images: ImageSet) -> np.ndarray:
    return images.batch(torch.arange(len(images))).numpy()


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Class folders: three cats and two dogs to train on, one dog and one emu to test on."""
    root = tmp_path / "pets"
    files = [
        "train/cat/a",
        "train/cat/b",
        "train/cat/c",
        "train/dog/a",
        "train/dog/b",
        "test/dog/z",
        "test/emu/z",
    ]
    for seed, file in enumerate(files):
        write_png(root / f"{file}.png", noise(seed))
    return root


def write_parquet(file: Path, columns: dict[str, list[object]], classes: dict[str, list[str]]) -> None:
    """Writes a file as the hub's own library does; `img` holds images, `classes` names label columns."""
    import datasets

    kinds = {name: datasets.ClassLabel(names=names) for name, names in classes.items()}
    kinds |= {name: datasets.Value("string") for name in columns if name not in kinds}
    if "img" in columns:
        kinds["img"] = datasets.Image()
    file.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(columns, features=datasets.Features(kinds)).to_parquet(file)


def encoded(*seeds: int) -> list[object]:
    return [{"bytes": png_bytes(noise(seed)), "path": None} for seed in seeds]


FINE = {"fine_label": ["ant", "bee", "cat", "dog"], "coarse_label": ["insect", "mammal"]}


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """Parquet files: six images to train on in two files, two to test on; fine and coarse labels."""
    root = tmp_path / "animals"
    rows = {
        "train-00000-of-00002": ((0, 1, 2), [3, 0, 2], [1, 0, 1]),
        "train-00001-of-00002": ((3, 4, 5), [1, 1, 3], [0, 0, 1]),
        "test-00000-of-00001": ((6, 7), [2, 0], [1, 0]),
    }
    for name, (seeds, fine, coarse) in rows.items():
        columns = {"img": encoded(*seeds), "fine_label": fine, "coarse_label": coarse}
        write_parquet(root / f"{name}.parquet", columns, FINE)
    return root


# --- the embedded digits


def test_digits_are_scikit_learns_stretched_to_eight_bits() -> None:
    levels, labels = load_digits(return_X_y=True)
    expected = Counter(
        (int(label), tuple(int(level * 255 / 16 + 0.5) for level in image))
        for image, label in zip(levels, labels, strict=True)
    )
    found: Counter[tuple[int, tuple[int, ...]]] = Counter()
    for split in ("train", "test"):
        images = load_images("digits", split)
        assert images.image_shape == (8, 8, 1)
        assert images.label_names == tuple("0123456789")
        rows = pixels_of(images).reshape(-1, 64).tolist()
        found.update((label, tuple(row)) for label, row in zip(images.labels.tolist(), rows, strict=True))
    assert found == expected


def test_a_fifth_of_every_digit_is_for_testing() -> None:
    test = Counter(load_images("digits", "test").labels.tolist())
    both = test + Counter(load_images("digits", "train").labels.tolist())
    assert sum(both.values()) == 1797
    assert all(abs(test[digit] - both[digit] / 5) < 1 for digit in range(10))


# --- class folders


def test_class_folders_give_pixels_and_labels_in_order(pets: Path) -> None:
    train, test = load_images(str(pets), "train"), load_images(str(pets), "test")
    np.testing.assert_array_equal(pixels_of(train), np.stack([noise(seed) for seed in range(5)]))
    assert train.labels.tolist() == [0, 0, 0, 1, 1]
    assert train.labels.dtype == torch.int64
    assert train.label_names == test.label_names == ("cat", "dog", "emu")
    assert test.labels.tolist() == [1, 2]
    assert train.superclass_names == train.superclass_of_label == ()


def test_a_folder_without_split_folders_is_all_train(pets: Path) -> None:
    assert len(load_images(str(pets / "train"), "train")) == 5
    with pytest.raises(InputError, match=r"no split 'test': choose one of train$"):
        load_images(str(pets / "train"), "test")


def save_palette(file: Path) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([9, 9, 9, 200, 100, 50])
    image.save(file, transparency=bytes([0, 128]))


SOLID: dict[str, tuple[str, Callable[[Path], None], tuple[int, int, int]]] = {
    "rgb": ("png", lambda f: Image.new("RGB", (8, 8), (200, 100, 50)).save(f), (200, 100, 50)),
    "grey": ("png", lambda f: Image.new("L", (8, 8), 77).save(f), (77, 77, 77)),
    "bilevel": ("png", lambda f: Image.new("1", (8, 8), 1).save(f), (255, 255, 255)),
    "palette": ("png", save_palette, (200, 100, 50)),
    "alpha": ("png", lambda f: Image.new("RGBA", (8, 8), (200, 100, 50, 128)).save(f), (200, 100, 50)),
    "grey-alpha": ("png", lambda f: Image.new("LA", (8, 8), (77, 128)).save(f), (77, 77, 77)),
    "sixteen-bit": ("png", lambda f: Image.new("I;16", (8, 8), 77 * 257).save(f), (77, 77, 77)),
    "cmyk": (
        "jpg",
        lambda f: Image.new("CMYK", (8, 8), (55, 155, 205, 0)).save(f, quality=100),
        (200, 100, 50),
    ),
}


@pytest.mark.parametrize("kind", SOLID)
def test_every_kind_of_image_becomes_rgb(kind: str, tmp_path: Path) -> None:
    suffix, save, colour = SOLID[kind]
    (tmp_path / "solid" / "class").mkdir(parents=True)
    save(tmp_path / "solid" / "class" / f"image.{suffix}")
    pixels = pixels_of(load_images(str(tmp_path / "solid"), "train")).astype(int)
    tolerance = 4 if suffix == "jpg" else 0
    assert pixels.shape == (1, 8, 8, 3)
    assert (abs(pixels - np.array(colour)) <= tolerance).all()


def test_an_image_stored_on_its_side_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = tmp_path / "turned" / "class" / "image.png"
    file.parent.mkdir(parents=True)
    Image.fromarray(noise(0, 4, 6)).save(file, exif=exif)
    pixels = pixels_of(load_images(str(tmp_path / "turned"), "train"))
    np.testing.assert_array_equal(pixels[0], np.rot90(noise(0, 4, 6), -1))


@pytest.mark.parametrize(("height", "width"), [(40, 61), (61, 40), (16, 16), (9, 33)])
def test_resizing_is_torchvisions(height: int, width: int, tmp_path: Path) -> None:
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    write_png(tmp_path / "mixed" / "class" / "image.png", noise(0, height, width))
    found = pixels_of(load_images(str(tmp_path / "mixed"), "train", image_size=16))
    transform = Compose([Resize(16, InterpolationMode.BICUBIC), CenterCrop(16)])
    np.testing.assert_array_equal(found[0], np.asarray(transform(Image.fromarray(noise(0, height, width)))))


def test_a_size_that_the_images_have_changes_nothing(pets: Path) -> None:
    own = load_images(str(pets), "train")
    asked = load_images(str(pets), "train", image_size=own.image_shape[0])
    assert asked.fingerprint == own.fingerprint
    assert load_images(str(pets), "train", image_size=own.image_shape[0] + 1).fingerprint != own.fingerprint
    assert load_images("digits", "test", image_size=8).fingerprint == load_images("digits", "test").fingerprint
    # One image of another size: there is nothing that they have of their own, and another size is another set.
    write_png(pets / "train/cat/d.png", noise(1)[:4])
    with pytest.raises(InputError, match="differ in size"):
        load_images(str(pets), "train")
    sizes = (own.image_shape[0], own.image_shape[0] + 1)
    assert len({load_images(str(pets), "train", image_size=size).fingerprint for size in sizes}) == 2


def test_images_of_several_sizes_need_a_size(pets: Path) -> None:
    write_png(pets / "train" / "dog" / "c.png", noise(9, height=6, width=12))
    with pytest.raises(InputError, match=r"differ in size \(8×8 and 12×6\); give --image-size"):
        load_images(str(pets), "train")
    assert load_images(str(pets), "train", image_size=8).image_shape == (8, 8, 3)
    with pytest.raises(InputError, match="--image-size is 0"):
        load_images(str(pets), "train", image_size=0)


# --- parquet files


def test_parquet_gives_pixels_labels_and_super_classes(animals: Path) -> None:
    train, test = load_images(str(animals), "train"), load_images(str(animals), "test")
    np.testing.assert_array_equal(pixels_of(train), np.stack([noise(seed) for seed in range(6)]))
    assert train.labels.tolist() == [3, 0, 2, 1, 1, 3]
    assert train.label_names == ("ant", "bee", "cat", "dog")
    # The test split has no bee and no dog: their super-classes are known from the other files.
    assert test.superclass_names == train.superclass_names == ("insect", "mammal")
    assert test.superclass_of_label == train.superclass_of_label == (0, 0, 1, 1)


@pytest.mark.parametrize("layout", ["data/{}-00000-of-00001", "default/{}/0000", "{}", "data/{}-00000-of-00001-9f8e"])
def test_the_hubs_layouts_are_understood(layout: str, tmp_path: Path) -> None:
    for count, split in enumerate(("train", "validation"), start=1):
        columns = {"img": encoded(*range(count)), "label": [0] * count}
        write_parquet(tmp_path / "set" / f"{layout.format(split)}.parquet", columns, {"label": ["a", "b"]})
    assert len(load_images(str(tmp_path / "set"), "validation")) == 2
    with pytest.raises(InputError, match=r"no split 'test': choose one of train, validation$"):
        load_images(str(tmp_path / "set"), "test")


def test_a_coarse_column_that_labels_do_not_determine_gives_no_super_classes(tmp_path: Path) -> None:
    columns = {"img": encoded(0, 1, 2, 3, 4), "fine_label": [0, 1, 2, 3, 3], "coarse_label": [0, 0, 1, 1, 0]}
    write_parquet(tmp_path / "set" / "train.parquet", columns, FINE)
    images = load_images(str(tmp_path / "set"), "train")
    assert images.superclass_names == images.superclass_of_label == ()


def test_a_column_can_say_which_split_a_row_belongs_to(tmp_path: Path) -> None:
    for file, seeds, splits in (
        ("train", (0, 1, 2), ["test", "train", "valid"]),
        ("test", (3, 4), ["train", "test"]),
    ):
        columns = {"img": encoded(*seeds), "label": [s % 2 for s in seeds], "cct_split": splits}
        write_parquet(tmp_path / "flora" / f"{file}.parquet", columns, {"label": ["a", "b"]})
    images = load_images(f"{tmp_path / 'flora'}:cct", "test")
    # File by file in the order of their names: test.parquet comes first.
    np.testing.assert_array_equal(pixels_of(images), np.stack([noise(4), noise(0)]))
    assert images.labels.tolist() == [0, 0]
    assert images.fingerprint != load_images(f"{tmp_path / 'flora'}:cct", "train").fingerprint
    with pytest.raises(InputError, match="no split 'validation': choose one of test, train, valid"):
        load_images(f"{tmp_path / 'flora'}:cct", "validation")


def test_a_missing_split_column_is_said(animals: Path) -> None:
    with pytest.raises(InputError, match="needs a column 'cct_split'"):
        load_images(f"{animals}:cct", "train")


@pytest.mark.parametrize("missing", [None, -1])
def test_missing_labels_are_counted(missing: int | None, tmp_path: Path) -> None:
    columns = {"img": encoded(0, 1, 2), "label": [0, missing, missing]}
    write_parquet(tmp_path / "set" / "test.parquet", columns, {"label": ["a", "b"]})
    with pytest.raises(InputError, match=r"2 of 3 rows in .* \(test\) have no label in 0\.\.1"):
        load_images(str(tmp_path / "set"), "test")


def test_files_whose_label_names_differ_are_refused(animals: Path) -> None:
    columns = {"img": encoded(8), "fine_label": [0], "coarse_label": [0]}
    renamed = FINE | {"fine_label": ["bee", "ant", "cat", "dog"]}
    write_parquet(animals / "test-00000-of-00001.parquet", columns, renamed)
    with pytest.raises(InputError, match="differ in columns or label names"):
        load_images(str(animals), "test")


def test_parquet_without_the_hubs_description_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    table = pyarrow.table({"img": [b"x"], "label": [0]})
    pyarrow.parquet.write_table(table, tmp_path / "set" / "train.parquet")
    with pytest.raises(InputError, match="lacks the hub's description"):
        load_images(str(tmp_path / "set"), "train")


@pytest.mark.parametrize("said", [b"", b"{}", b"12", b'{"info": {"features": []}}'])
def test_a_damaged_description_is_refused(said: bytes, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    table = pyarrow.table({"img": [b"x"], "label": [0]}).replace_schema_metadata({b"huggingface": said})
    pyarrow.parquet.write_table(table, tmp_path / "set" / "train.parquet")
    with pytest.raises(InputError, match="description of its columns is damaged"):
        load_images(str(tmp_path / "set"), "train")


def test_a_column_of_lists_beside_the_images_does_not_matter(animals: Path) -> None:
    expected = load_images(str(animals), "train").batch(np.arange(2))
    for file in animals.glob("*.parquet"):
        table = pyarrow.parquet.read_table(file)
        said = json.loads(table.schema.metadata[b"huggingface"])
        said["info"]["features"]["tags"] = [{"dtype": "string", "_type": "Value"}]
        table = table.append_column("tags", pyarrow.array([["a", "b"]] * len(table)))
        table = table.replace_schema_metadata({b"huggingface": json.dumps(said).encode()})
        pyarrow.parquet.write_table(table, file)
    assert torch.equal(load_images(str(animals), "train").batch(np.arange(2)), expected)


def test_a_damaged_parquet_file_is_named(animals: Path) -> None:
    file = animals / "test-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"test-00000-of-00001.parquet is damaged"):
        load_images(str(animals), "train")


def test_a_folder_of_several_data_sets_is_refused(animals: Path, tmp_path: Path) -> None:
    shutil.copytree(animals, tmp_path / "zoo" / "one")
    shutil.copytree(animals, tmp_path / "zoo" / "two")
    with pytest.raises(InputError, match=r"several data sets; give the folder of one: .*one, .*two"):
        load_images(str(tmp_path / "zoo"), "train")


# --- images that cannot be decoded


def test_undecodable_images_are_counted_and_named_or_skipped(pets: Path) -> None:
    whole = (pets / "train" / "cat" / "b.png").read_bytes()
    (pets / "train" / "cat" / "b.png").write_bytes(whole[: len(whole) // 2])
    (pets / "train" / "dog" / "a.png").write_bytes(b"no image")
    sentence = r"2 of 5 images in .*pets \(train\) cannot be decoded \(first: cat/b.png, dog/a.png\); repair them or"
    for _ in range(2):
        with pytest.raises(InputError, match=sentence):
            load_images(str(pets), "train")
    images = load_images(str(pets), "train", skip_undecodable=True)
    assert images.skipped == 2
    assert images.labels.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(pixels_of(images), np.stack([noise(0), noise(2), noise(4)]))
    (pets / "train" / "cat" / "b.png").write_bytes(whole)
    (pets / "train" / "dog" / "a.png").write_bytes(png_bytes(noise(3)))
    assert load_images(str(pets), "train").skipped == 0


def test_undecodable_rows_of_parquet_are_named(tmp_path: Path) -> None:
    images = [*encoded(0), None, {"bytes": b"RIFF", "path": "x"}]
    write_parquet(tmp_path / "set" / "train.parquet", {"img": images, "label": [0, 1, 1]}, {"label": ["a", "b"]})
    with pytest.raises(InputError, match=r"2 of 3 .*first: train.parquet row 1, train.parquet row 2"):
        load_images(str(tmp_path / "set"), "train")
    assert load_images(str(tmp_path / "set"), "train", skip_undecodable=True).labels.tolist() == [0]


def test_a_split_of_which_nothing_can_be_decoded_is_refused(pets: Path, cache: Path) -> None:
    for file in (pets / "test").rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(InputError, match=r"none of the 2 images .* can be decoded \(first: dog/z.png\)"):
        load_images(str(pets), "test", skip_undecodable=True)
    assert not list((cache / "images").glob("*/"))


# --- names, splits, and what they cannot be


@pytest.mark.parametrize("name", ["cifar101", "", "no/such/folder"])
def test_an_unknown_name_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(InputError, match=r"known are digits, cifar100, flowers102, .* or hf:org/name"):
        load_images(name, "train")


def test_an_unknown_split_is_answered_with_the_known_ones(pets: Path) -> None:
    with pytest.raises(InputError, match="digits has no split 'validation': choose one of train, test"):
        load_images("digits", "validation")
    with pytest.raises(InputError, match="choose one of test, train"):
        load_images(str(pets), "valid")


def test_an_empty_split_is_refused(pets: Path, tmp_path: Path) -> None:
    shutil.rmtree(pets / "test")
    (pets / "test").mkdir()
    with pytest.raises(InputError, match=r"\(test\) is empty"):
        load_images(str(pets), "test")
    write_parquet(tmp_path / "set" / "test.parquet", {"img": [], "label": []}, {"label": ["a"]})
    with pytest.raises(InputError, match=r"\(test\) is empty"):
        load_images(str(tmp_path / "set"), "test")


def test_a_text_data_set_is_no_image_data_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="clinc150 is a text data set"):
        load_images("clinc150", "train")
    write_parquet(tmp_path / "set" / "train.parquet", {"text": ["hello"], "intent": [0]}, {"intent": ["greet"]})
    with pytest.raises(InputError, match=r"is a text data set \(columns: text, intent\)"):
        load_images(str(tmp_path / "set"), "train")


def test_a_plain_name_is_looked_up_among_the_local_copies(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODELENS_DATA", str(pets.parent))
    images = load_images("pets", "train")
    assert images.name == "pets"
    assert images.fingerprint == load_images(str(pets), "train").fingerprint


def test_the_hubs_copy_is_read_like_a_folder(animals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def snapshot_download(repository: str, **options: str) -> str:
        asked.append(f"{repository}@{options['revision']}")
        # A repository without parquet files of its own has some in the hub's branch.
        return str(animals if "convert" in options["revision"] else animals.parent / "nothing")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setenv("NODELENS_DATA", str(animals.parent))
    assert load_images("hf:zoo/animals", "train").labels.tolist() == [3, 0, 2, 1, 1, 3]
    assert asked == ["zoo/animals@main", "zoo/animals@refs/convert/parquet"]


def test_without_a_network_the_hub_is_one_sentence(tmp_path: Path) -> None:
    program = (
        "from nodelens.data.datasets import load_images\n"
        "from nodelens.errors import InputError\n"
        "for name in ('cifar100', 'hf:zoo/animals'):\n"
        "    try: load_images(name, 'train')\n"
        "    except InputError as error: print(error)\n"
    )
    sentences = run(program, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hub")).splitlines()
    assert len(sentences) == 2
    assert sentences[0].startswith("'uoft-cs/cifar100' cannot be fetched from the hub")
    assert sentences[1].startswith("'zoo/animals' cannot be fetched from the hub")
    assert all("NODELENS_DATA" in sentence for sentence in sentences)


def run(program: str, **environment: str) -> str:
    """What a Python program prints, run in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


# --- the cache


def test_two_loads_map_the_same_file_read_only(animals: Path) -> None:
    first, second = load_images(str(animals), "train"), load_images(str(animals), "train")
    assert isinstance(first.pixels, np.memmap)
    assert isinstance(second.pixels, np.memmap)
    assert first.pixels.filename == second.pixels.filename
    with pytest.raises(ValueError, match="read-only"):
        first.pixels[0] = 0


def test_the_cache_can_be_named_by_argument(animals: Path, cache: Path, tmp_path: Path) -> None:
    load_images(str(animals), "train", cache=tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "images").is_dir()
    assert not cache.exists()


def test_loading_decoded_images_imports_no_reader_and_decodes_nothing(animals: Path) -> None:
    load_images(str(animals), "train")
    program = (
        "import sys; import nodelens.data.decoded as decoded\n"
        "from nodelens.data.datasets import load_images\n"
        "decoded._write = None\n"
        f"load_images({str(animals)!r}, 'train')\n"
        "print({'datasets', 'pyarrow', 'sklearn', 'huggingface_hub'} & set(sys.modules))"
    )
    assert run(program).strip() == "set()"


def truncate_images(folder: Path) -> None:
    with (folder / "images.npy").open("r+b") as file:
        file.truncate(200)


def spoil_meta(folder: Path) -> None:
    (folder / "meta.json").write_text('{"label_names"')


def lose_labels(folder: Path) -> None:
    (folder / "labels.npy").unlink()


@pytest.mark.parametrize("damage", [truncate_images, spoil_meta, lose_labels])
def test_a_damaged_cache_is_made_again(
    damage: Callable[[Path], None], animals: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = pixels_of(load_images(str(animals), "train"))
    (folder,) = (cache / "images").glob("*/")
    damage(folder)
    with caplog.at_level("INFO", logger="nodelens"):
        again = load_images(str(animals), "train")
    np.testing.assert_array_equal(pixels_of(again), before)
    assert again.labels.tolist() == [3, 0, 2, 1, 1, 3]
    assert "is damaged and will be made again" in caplog.text


def test_what_a_killed_run_left_is_cleared(animals: Path, cache: Path) -> None:
    load_images(str(animals), "train")
    (folder,) = (cache / "images").glob("*/")
    folder.rename(folder.with_suffix(".partial"))
    truncate_images(folder.with_suffix(".partial"))
    assert len(load_images(str(animals), "train")) == 6
    assert [path.name for path in (cache / "images").glob("*/")] == [folder.name]


def test_the_fingerprint_follows_the_content_not_the_place(pets: Path, tmp_path: Path) -> None:
    original = load_images(str(pets), "train").fingerprint
    assert len(original) >= 16
    assert int(original, 16) >= 0
    shutil.copytree(pets, tmp_path / "copy")
    assert load_images(str(tmp_path / "copy"), "train").fingerprint == original
    assert load_images(str(pets), "train", image_size=4).fingerprint != original
    write_png(pets / "train" / "cat" / "a.png", noise(99))
    changed = load_images(str(pets), "train")
    assert changed.fingerprint != original
    np.testing.assert_array_equal(changed.batch(np.array([0]))[0].numpy(), noise(99))


def test_a_new_image_of_the_same_size_and_age_is_noticed(pets: Path) -> None:
    file = pets / "train" / "cat" / "a.bmp"
    write_png(file, noise(50))
    original, age = load_images(str(pets), "train").fingerprint, file.stat()
    write_png(file, noise(51))
    os.utime(file, ns=(age.st_atime_ns, age.st_mtime_ns))
    assert file.stat().st_size == age.st_size
    assert load_images(str(pets), "train").fingerprint != original


def test_a_full_disk_is_said_and_leaves_nothing_behind(
    animals: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(InputError, match=r"no space is left in .*cache; .* NODELENS_CACHE"):
            load_images(str(animals), "train")
    assert not list((cache / "images").glob("*/"))
    assert len(load_images(str(animals), "train")) == 6


def test_a_cache_that_is_no_folder_is_said(animals: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="set NODELENS_CACHE to another folder"):
        load_images(str(animals), "train", cache=tmp_path / "file")


def test_loads_at_the_same_time_decode_once(animals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    write = decoded._write

    def counted(folder: Path, source: decoded.Source, image_size: int | None) -> None:
        written.append(folder)
        write(folder, source, image_size)

    monkeypatch.setattr(decoded, "_write", counted)
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: load_images(str(animals), "train"), range(4)))
    assert len(written) == 1
    assert all(images.labels.tolist() == [3, 0, 2, 1, 1, 3] for images in loaded)


# --- subsets, batches, statistics


def test_batches_go_through_the_set_in_order(animals: Path) -> None:
    images = load_images(str(animals), "train")
    batches = list(images.batches(4))
    assert [len(pixels) for pixels, _ in batches] == [4, 2]
    assert torch.cat([labels for _, labels in batches]).tolist() == [3, 0, 2, 1, 1, 3]
    np.testing.assert_array_equal(torch.cat([pixels for pixels, _ in batches]).numpy(), pixels_of(images))


def test_a_batch_takes_positions_in_any_order(animals: Path) -> None:
    images = load_images(str(animals), "train")
    expected = np.stack([noise(5), noise(0), noise(5)])
    for positions in (np.array([5, 0, 5]), torch.tensor([5, 0, 5])):
        batch = images.batch(positions)
        assert batch.dtype == torch.uint8
        np.testing.assert_array_equal(batch.numpy(), expected)
    with pytest.raises(IndexError):
        images.batch(np.array([6]))


def test_a_subset_of_a_subset_shares_the_pixels(animals: Path) -> None:
    images = load_images(str(animals), "train")
    odd = images.take(torch.tensor([1, 3, 5]), "odd")
    last = odd.take(np.array([2, 0]), "last")
    assert last.pixels is images.pixels
    assert (len(last), last.split, last.labels.tolist()) == (2, "last", [3, 0])
    np.testing.assert_array_equal(pixels_of(last), np.stack([noise(5), noise(1)]))
    assert len({images.fingerprint, odd.fingerprint, last.fingerprint}) == 3


def test_holdout_divides_every_label_alike() -> None:
    images = load_images("digits", "train")
    rest, held = holdout(images, 0.25, seed=3)
    assert sorted(np.concatenate([rest.rows, held.rows]).tolist()) == list(range(len(images)))
    assert len(held) == len(images) // 4
    whole, part = (Counter(some.labels.tolist()) for some in (images, held))
    assert all(abs(part[label] - whole[label] / 4) < 1 for label in whole)
    assert holdout(images, 0.25, seed=3)[1].fingerprint == held.fingerprint
    assert holdout(images, 0.25, seed=4)[1].fingerprint != held.fingerprint


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 0.1])
def test_a_holdout_that_empties_a_part_is_refused(fraction: float, animals: Path) -> None:
    with pytest.raises(InputError, match="cannot be held out"):
        holdout(load_images(str(animals), "train"), fraction, seed=0)


@given(st.lists(st.integers(0, 4), max_size=60), st.integers(1, 99), st.integers(0, 3))
def test_stratified_positions_are_a_fair_division(labels: list[int], percent: int, seed: int) -> None:
    rest, held = stratified(np.array(labels, dtype=np.int64), percent / 100, seed)
    assert sorted([*rest.tolist(), *held.tolist()]) == list(range(len(labels)))
    assert len(held) == len(labels) * percent // 100
    taken = Counter(labels[position] for position in held)
    assert all(abs(taken[label] - count * percent / 100) < 1 + 1e-6 for label, count in Counter(labels).items())


def test_channel_statistics_are_those_of_all_pixels(animals: Path) -> None:
    images = load_images(str(animals), "train").take(np.array([4, 1]), "two")
    mean, deviation = images.channel_statistics()
    pixels = pixels_of(images).astype(np.float64).reshape(-1, 3) / 255
    np.testing.assert_allclose(mean, pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(deviation, pixels.std(axis=0), rtol=1e-12)


# --- real data


@pytest.fixture(scope="module")
def real_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests on real data: CIFAR-100 takes some seconds to decode."""
    return tmp_path_factory.mktemp("real")


@pytest.fixture
def real_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of local copies."""
    assert REAL_DATA is not None
    monkeypatch.setenv("NODELENS_DATA", REAL_DATA)
    return Path(REAL_DATA)


@needs_cifar100
def test_cifar100_is_pixel_exact(real_data: Path, real_cache: Path) -> None:
    test = load_images("cifar100", "test", cache=real_cache)
    (file,) = (real_data / "cifar100").glob("test-*.parquet")
    table = pyarrow.parquet.read_table(file)
    assert len(test) == len(table) == 10_000
    assert test.labels.tolist() == table["fine_label"].to_pylist()
    for row in (0, 1, 255, 256, 4999, 9999):
        image = Image.open(io.BytesIO(table["img"][row].as_py()["bytes"])).convert("RGB")
        np.testing.assert_array_equal(test.batch(np.array([row]))[0].numpy(), np.asarray(image))


@needs_cifar100
def test_cifar100_has_twenty_super_classes_of_five_labels(real_data: Path, real_cache: Path) -> None:
    train = load_images("cifar100", "train", cache=real_cache)
    assert len(train) == 50_000
    assert Counter(train.labels.tolist()) == dict.fromkeys(range(100), 500)
    assert len(train.superclass_names) == 20
    assert Counter(train.superclass_of_label) == dict.fromkeys(range(20), 5)
    members = {train.label_names[i] for i in range(100) if train.superclass_of_label[i] == 0}
    assert train.superclass_names[0] == "aquatic_mammals"
    assert members == {"beaver", "dolphin", "otter", "seal", "whale"}


@needs_cifar100
def test_cifar100_has_the_published_channel_statistics(real_data: Path, real_cache: Path) -> None:
    mean, deviation = load_images("cifar100", "train", cache=real_cache).channel_statistics()
    # The digits that public training code gives for the 50,000 training images.
    np.testing.assert_allclose(mean, (0.5070751592, 0.4865488733, 0.4409178434), atol=1e-9)
    np.testing.assert_allclose(deviation, (0.2673342859, 0.2564384629, 0.2761504713), atol=1e-9)
    # Published networks were trained with these, rounded elsewhere.
    np.testing.assert_allclose(mean, (0.5071, 0.4867, 0.4408), atol=3e-4)
    np.testing.assert_allclose(deviation, (0.2675, 0.2565, 0.2761), atol=3e-4)


@needs_flowers102
def test_flowers102_has_the_official_splits_and_that_of_the_cct_authors(real_data: Path, real_cache: Path) -> None:
    assert len(load_images("flowers102", "train", image_size=32, cache=real_cache)) == 1020
    assert len(load_images("flowers102:cct", "test", image_size=32, cache=real_cache)) == 819
    names = load_images("flowers102", "train", image_size=32, cache=real_cache).label_names
    assert (names[0], names[72], names[101], len(set(names))) == ("pink primrose", "water lily", "blackberry lily", 102)
    with pytest.raises(InputError, match="choose one of test, train, validation"):
        load_images("flowers102", "valid", cache=real_cache)
