"""Class folders: what is read, how it becomes pixels, and nothing passed over in silence."""

from __future__ import annotations

import os
from pathlib import Path, PurePath

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image
from user_images import class_folders, folders, save_image, write_folder

from metatune.errors import DataError, MetatuneError, OptionError
from metatune.tasks.images import image_files
from metatune.tasks.images.image_files import decode, distinct, find_images, read_images


def read(folder: Path, levels="class", size=8, colour="grey"):
    return read_images(folder, levels, size, colour)


# --- which files ----------------------------------------------------------------------------------


def test_classes_are_folders_and_their_images_stand_together(tmp_path: Path) -> None:
    data = read(class_folders(tmp_path / "d", classes=3, images=4))
    assert data.classes == ("c00", "c01", "c02")
    assert data.sizes.tolist() == [4, 4, 4]
    assert data.images.shape == (12, 1, 8, 8)
    assert data.notes == ("12 images of 3 classes, grey, 8x8 pixels.",)
    expected = np.asarray(Image.open(tmp_path / "d" / "c01" / "2.png"))
    np.testing.assert_array_equal(data.images[data.rows[data.start[1] + 2], 0], expected)


def test_classes_of_a_group_level_carry_its_name(tmp_path: Path) -> None:
    data = read(class_folders(tmp_path / "d", groups=2, classes=2), "group/class")
    assert data.classes == ("g00/c00", "g00/c01", "g01/c00", "g01/c01")


def test_the_same_name_in_two_groups_is_two_classes(tmp_path: Path) -> None:
    save_image(tmp_path / "one" / "dog" / "1.png", 1)
    save_image(tmp_path / "two" / "dog" / "1.png", 2)
    assert read(tmp_path, "group/class").classes == ("one/dog", "two/dog")


@pytest.mark.parametrize(("levels", "file", "told"), [
    ("class", "1.png", "the image 1.png, 0 folders down in"),
    ("class", "a/b/1.png", "the image a/b/1.png, 2 folders down in"),
    ("group/class", "a/1.png", "the image a/1.png, 1 folders down in"),
    ("group/class", "a/b/c/1.png", "the image a/b/c/1.png, 3 folders down in"),
])  # fmt: skip
def test_an_image_at_another_depth_is_refused_with_its_place(
    tmp_path: Path, levels, file: str, told: str
) -> None:
    fitting = "b/1.png" if levels == "class" else "b/b/1.png"
    save_image(tmp_path / fitting, 0)
    save_image(tmp_path / file, 1)
    with pytest.raises(OptionError, match=told) as refused:
        find_images(tmp_path, levels)
    assert refused.value.key == "levels"
    assert f"for levels: {levels} images as {levels}/*.png" in refused.value.allowed


def test_a_folder_that_is_not_there_or_has_no_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"data: found .*nowhere, which is no folder; allowed: a"):
        find_images(tmp_path / "nowhere", "class")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("")
    with pytest.raises(
        OptionError, match=r"found no image in .*; allowed: files that end in \.png"
    ):
        find_images(tmp_path, "class")


def test_what_is_passed_over_is_told(tmp_path: Path) -> None:
    class_folders(tmp_path, classes=2)
    for name in ("read me.txt", "c00/Thumbs.db", ".DS_Store", "c01/._1.png", ".git/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    assert find_images(tmp_path, "class").notes == (
        "3 hidden files and folders are passed over (.git, .DS_Store, c01/._1.png).",
        "2 files are no images by the endings of their names (read me.txt, c00/Thumbs.db).",
        "1 folders are without images (empty).",
    )


def test_names_of_any_script_are_taken_and_names_without_one_refused(tmp_path: Path) -> None:
    save_image(tmp_path / "кот $x_1$" / "図 1.PNG", 1)
    assert read(tmp_path).classes == ("кот $x_1$",)
    strange = os.fsdecode(b"\xff\xfe")
    save_image(tmp_path / "кот $x_1$" / f"{strange}.png", 2)
    assert len(read(tmp_path).rows) == 2
    save_image(tmp_path / strange / "1.png", 3)
    with pytest.raises(DataError, match=r"the folder \\udcff\\udcfe has a name that is no Unicode"):
        read(tmp_path)


def test_links_to_folders_are_followed_and_loops_refused(tmp_path: Path) -> None:
    class_folders(tmp_path / "real", classes=1)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "linked").symlink_to(tmp_path / "real" / "c00")
    assert find_images(tmp_path / "d", "class").classes == ("linked",)
    (tmp_path / "d" / "loop").symlink_to(tmp_path / "d")
    with pytest.raises(MetatuneError, match=r"2 folders down in|folders deep"):
        find_images(tmp_path / "d", "class")


# --- from files to pixels -------------------------------------------------------------------------


def test_grey_has_one_channel_and_rgb_three(tmp_path: Path) -> None:
    path = save_image(tmp_path / "a" / "1.png", 1, mode="RGB")
    stored = np.asarray(Image.open(path))
    np.testing.assert_array_equal(decode(path, 8, "rgb")[0], stored.transpose(2, 0, 1))
    grey = np.asarray(Image.open(path).convert("L"))
    np.testing.assert_array_equal(decode(path, 8, "grey")[0][0], grey)


def test_the_longer_side_is_cut_evenly_and_that_is_told(tmp_path: Path) -> None:
    pixels = np.zeros((8, 16), np.uint8)
    pixels[:, 4:12] = 200
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    image, done = decode(tmp_path / "wide.png", 4, "grey")
    assert (image == 200).all()
    assert done == ("not square: the longer side is cut evenly at both ends",)


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4, :, 3] = 255
    Image.fromarray(pixels, "RGBA").save(tmp_path / "a.png")
    image, _ = decode(tmp_path / "a.png", 8, "grey")
    assert (image[0, :4] == 0).all()
    assert (image[0, 4:] == 255).all()


def test_sixteen_bits_of_grey_keep_their_range(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    image, _ = decode(tmp_path / "a.png", 8, "grey")
    np.testing.assert_array_equal(image[0], values // 257)


def test_numbers_without_a_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="allowed: 8 or 16 bits"):
        decode(tmp_path / "a.tif", 8, "grey")


def test_a_photograph_is_turned_as_its_data_say(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8), np.uint8)
    pixels[0] = 255  # the top row
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    image, _ = decode(tmp_path / "a.png", 8, "grey")
    assert (image[0, :, -1] == 255).all()
    assert not image[0, :, :-1].any()


def test_the_first_picture_of_an_animation_counts(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 8), value) for value in (50, 100)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    image, done = decode(tmp_path / "a.gif", 8, "grey")
    assert (image == 50).all()
    assert done == ("animated or of many pages: the first picture counts",)


# --- nothing is left out in silence ---------------------------------------------------------------


def test_files_that_cannot_be_read_are_named_with_the_reason(tmp_path: Path) -> None:
    class_folders(tmp_path, classes=1, images=2)
    (tmp_path / "c00" / "empty.png").write_bytes(b"")
    (tmp_path / "c00" / "text.png").write_bytes(b"no image")
    whole = save_image(tmp_path / "c00" / "cut.png", 9, side=64).read_bytes()
    (tmp_path / "c00" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c00" / "zlink.png").symlink_to(tmp_path / "nowhere")
    data = read(tmp_path)
    assert data.sizes.tolist() == [2]
    told = data.notes[-1]
    assert told.startswith("4 of 6 images cannot be read and are left out (c00/cut.png: ")
    assert "c00/empty.png: an empty file, c00/text.png: cannot identify image file" in told
    assert told.endswith("and 1 more).")


def test_a_folder_of_broken_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"none of 1 images .* \(first: a/1.png: an empty file\)"):
        read(tmp_path)


def test_one_image_twice_in_a_class_counts_once_whatever_its_format(tmp_path: Path) -> None:
    class_folders(tmp_path, classes=2, images=3)
    Image.open(tmp_path / "c01" / "0.png").save(tmp_path / "c01" / "copy.bmp")
    data = read(tmp_path)
    assert data.sizes.tolist() == [3, 3]
    assert data.notes[1:] == (
        "1 of 7 images repeat another of their class and are left out (c01/copy.bmp = c01/0.png).",
    )


def test_one_image_in_two_classes_counts_in_neither(tmp_path: Path) -> None:
    class_folders(tmp_path, classes=3, images=3)
    for name in ("c00/0.png", "c00/also.png"):
        (tmp_path / name).write_bytes((tmp_path / "c02" / "1.png").read_bytes())
    data = read(tmp_path)
    assert data.sizes.tolist() == [2, 3, 2]
    assert data.notes[1:] == (
        "3 of 10 images stand in two classes or more and are left out of all "
        "(c00/0.png = c00/also.png = c02/1.png).",
    )


def test_rows_that_count_are_told_from_copies() -> None:
    digests = [b"a", b"b", b"a", b"", b"c", b"c", b"c"]
    assert distinct(digests, [0, 0, 0, 0, 1, 2, 2]) == ([0, 1], [(0, 2)], [[4, 5, 6]])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=folders())
def test_whatever_a_folder_holds_is_counted_told_or_refused(tmp_path_factory, files) -> None:
    folder = write_folder(tmp_path_factory.mktemp("any") / "d", files)
    for levels in ("class", "group/class"):
        try:
            found = find_images(folder, levels)
            data = read(folder, levels)
        except MetatuneError:
            continue
        assert data.sizes.sum() == len(data.rows) == len({*data.rows.tolist()})
        told = {"cannot be read": 0, "repeat another": 0, "two classes or more": 0}
        for note in data.notes:
            for what in told:
                told[what] += int(note.split()[0]) if what in note else 0
        assert len(data.rows) + sum(told.values()) == len(found.files)
        pixels = [data.images[row].tobytes() for row in data.rows]
        assert len(set(pixels)) == len(pixels)


# --- the cache ------------------------------------------------------------------------------------


def test_images_are_decoded_once_and_mapped_afterwards(tmp_path: Path, monkeypatch) -> None:
    folder = class_folders(tmp_path / "d", classes=2)
    first = read(folder)
    monkeypatch.setattr(image_files, "decode", None)
    again = read(folder)
    assert isinstance(again.images, np.memmap)
    assert not again.images.flags.writeable
    assert again.content == first.content
    assert again.notes == first.notes


def test_a_changed_file_is_seen_and_a_copy_elsewhere_has_the_same_content(tmp_path: Path) -> None:
    one, two = (read(class_folders(tmp_path / name, classes=2)) for name in ("a", "b"))
    assert one.content == two.content
    save_image(tmp_path / "a" / "c00" / "0.png", 99, side=9)
    assert read(tmp_path / "a").content != one.content
    (tmp_path / "b" / "read me.txt").write_text("")
    assert read(tmp_path / "b").notes[1].startswith("1 files are no images")
    other = read(tmp_path / "b", size=4)
    assert other.images.shape[2:] == (4, 4)


def test_paths_are_shown_whatever_bytes_are_in_them() -> None:
    assert image_files.shown(PurePath(os.fsdecode(b"a\xff.png"))) == "a\\udcff.png"
