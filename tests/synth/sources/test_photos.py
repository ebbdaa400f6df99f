import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from synth.errors import SourceRejectedError, SourceUnreadableError
from synth.sources import photos as images
from synth.sources.photos import read_photo


@pytest.fixture
def grey(rng):
    return rng.integers(0, 256, (20, 30), dtype=np.uint8)


def test_grey_and_colour_by_hand(tmp_path, grey):
    Image.fromarray(grey).save(tmp_path / "g.png")
    np.testing.assert_allclose(read_photo(tmp_path / "g.png").image, grey / 255, atol=1e-6)
    Image.fromarray(np.stack([grey, grey * 0, grey * 0], -1)).save(tmp_path / "r.png")
    np.testing.assert_allclose(read_photo(tmp_path / "r.png").image, 0.299 * grey / 255, atol=1e-6)


def test_sixteen_bits_are_kept(tmp_path):
    deep = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    for name in ("d.png", "d.tif"):
        Image.fromarray(deep).save(tmp_path / name)
        np.testing.assert_allclose(read_photo(tmp_path / name).image, deep / 65535, atol=1e-6)


def test_palette_equals_its_colours(tmp_path, grey):
    rgb = np.stack([grey, grey.T.reshape(20, 30), grey[::-1]], -1)
    palette = Image.fromarray(rgb).quantize(16)
    palette.save(tmp_path / "p.png")
    palette.convert("RGB").save(tmp_path / "rgb.png")
    np.testing.assert_allclose(read_photo(tmp_path / "p.png").image, read_photo(tmp_path / "rgb.png").image, atol=1e-6)


def test_transparency_is_shown_on_black(tmp_path, grey):
    alpha = np.full_like(grey, 255)
    alpha[:, :15] = 0
    Image.fromarray(np.stack([grey, grey, grey, alpha], -1)).save(tmp_path / "a.png")
    Image.fromarray(np.stack([grey, alpha], -1)).save(tmp_path / "la.png")
    for name in ("a.png", "la.png"):
        image = read_photo(tmp_path / name).image
        assert (image[:, :15] == 0).all()
        np.testing.assert_allclose(image[:, 15:], grey[:, 15:] / 255, atol=1e-2)


def test_other_modes_are_read(tmp_path, grey):
    Image.fromarray(grey).convert("CMYK").save(tmp_path / "c.jpg")
    Image.fromarray(grey > 128).save(tmp_path / "1.png")
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "f.tif")
    Image.fromarray(grey.astype(np.int32) * 1000).save(tmp_path / "i.tif")
    for name in ("c.jpg", "1.png", "f.tif", "i.tif"):
        image = read_photo(tmp_path / name).image
        assert image.shape == (20, 30)
        assert 0 <= image.min() < image.max() <= 1


def test_exif_orientation_is_followed(tmp_path, grey):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned: rotate by 90 degrees clockwise to show
    Image.fromarray(grey).save(tmp_path / "e.png", exif=exif)
    np.testing.assert_allclose(read_photo(tmp_path / "e.png").image, np.rot90(grey, -1) / 255, atol=1e-6)


def png_bomb(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


def rejected(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceRejectedError, match=message) as error:
        read_photo(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


def test_bad_files_are_rejected_with_a_reason(tmp_path, grey):
    Image.fromarray(grey).save(tmp_path / "ok.png")
    good = (tmp_path / "ok.png").read_bytes()
    Image.fromarray(grey).save(tmp_path / "ok.jpg")
    rejected(tmp_path, "text.png", b"not an image", "not an image")
    rejected(tmp_path, "empty.jpg", b"", "not an image")
    rejected(tmp_path, "cut.png", good[: len(good) // 2], "cannot be decoded")
    rejected(tmp_path, "cut.jpg", (tmp_path / "ok.jpg").read_bytes()[:300], "decode|not an image")
    rejected(tmp_path, "flipped.png", good[:60] + bytes([good[60] ^ 255]) + good[61:], "decoded")
    rejected(tmp_path, "bomb.png", png_bomb(60_000, 60_000), "over the limit of 100,000,000 pixels")
    rejected(tmp_path, "large.png", png_bomb(10_000, 10_001), "10000x10001 is over the limit")
    Image.new("L", (20, 30), 7).save(tmp_path / "flat.png")
    rejected(tmp_path, "flat.png", (tmp_path / "flat.png").read_bytes(), "same value")
    Image.new("L", (1, 1)).save(tmp_path / "one.png")
    rejected(tmp_path, "one.png", (tmp_path / "one.png").read_bytes(), "same value")
    frames = [Image.fromarray(np.roll(grey, k)) for k in range(3)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    rejected(tmp_path, "moving.gif", (tmp_path / "moving.gif").read_bytes(), "several frames")
    Image.fromarray(grey.astype(np.float32) - 128).save(tmp_path / "minus.tif")
    rejected(tmp_path, "minus.tif", (tmp_path / "minus.tif").read_bytes(), "negative")
    nan = grey.astype(np.float32)
    nan[3, 4] = np.nan
    Image.fromarray(nan).save(tmp_path / "nan.tif")
    rejected(tmp_path, "nan.tif", (tmp_path / "nan.tif").read_bytes(), "NaN or infinite")


def test_huge_files_are_not_even_read(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_BYTES", 1000)
    rejected(tmp_path, "large.png", b"0" * 1001, "over the limit")


def test_a_file_that_is_gone_is_no_rejection(tmp_path):
    with pytest.raises(SourceUnreadableError, match="put it back"):
        read_photo(tmp_path / "gone.png")


def test_passing_faults_are_no_rejections(tmp_path, grey, monkeypatch):
    """A rejection is kept for ever: only what is in the file's bytes may cause one."""
    Image.fromarray(grey).save(tmp_path / "g.png")

    def fail(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.read_bytes", fail)
        with pytest.raises(SourceUnreadableError, match="Input/output error"):
            read_photo(tmp_path / "g.png")

    def exhausted(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(images, "_grey", exhausted)
        with pytest.raises(MemoryError):
            read_photo(tmp_path / "g.png")


def test_jpegs_of_phones_with_more_behind_the_picture(tmp_path, grey):
    Image.fromarray(grey).save(tmp_path / "p.mpo", save_all=True, append_images=[Image.fromarray(grey[::-1])])
    (tmp_path / "p.mpo").rename(tmp_path / "p.jpg")
    with Image.open(tmp_path / "p.jpg") as file:
        assert file.n_frames == 2
    np.testing.assert_allclose(read_photo(tmp_path / "p.jpg").image, grey / 255, atol=0.15)


def test_things_that_are_no_files_neither_hang_nor_crash(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for name in ("pipe.png", "folder.png"):
        with pytest.raises(SourceRejectedError, match="not a file"):
            read_photo(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no image file"):
        images.ImagesSpec(kind="images", path=str(tmp_path)).list_files()


def test_many_frames_are_refused_at_once(tmp_path):
    tags = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 8, 279: 64}
    frame = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, v) for tag, v in tags.items())
    data, size = bytearray(b"II*\0" + struct.pack("<I", 8)), len(frame) + 4
    for k in range(100_000):
        data += frame + struct.pack("<I", 8 + (k + 1) * size)
    started = time.monotonic()
    rejected(tmp_path, "long.tif", bytes(data), "several frames")
    assert time.monotonic() - started < 2


def test_linked_folders_are_read_once_and_circles_end(tmp_path):
    inside, outside = tmp_path / "photos", tmp_path / "elsewhere"
    (inside / "b").mkdir(parents=True)
    (outside / "deep").mkdir(parents=True)
    for name in (inside / "b" / "own.png", outside / "far.png", outside / "deep" / "farther.png"):
        name.write_bytes(b"")
    (inside / "a").symlink_to(inside / "b")  # is below the folder anyway: the name b stays
    (inside / "linked").symlink_to(outside)
    (inside / "twice").symlink_to(outside)
    (outside / "deep" / "back").symlink_to(inside)
    spec = images.ImagesSpec(kind="images", path=str(inside))
    assert spec.list_files() == ["b/own.png", "linked/deep/farther.png", "linked/far.png"]


def test_listing_is_sorted_deep_and_only_images(tmp_path):
    for name in ("b.png", "a.jpg", "sub/c.PNG", ".hidden.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert images.ImagesSpec(kind="images", path=str(tmp_path)).list_files() == ["a.jpg", "b.png", "sub/c.PNG"]


def test_no_folder_and_no_image_are_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist; give a folder"):
        images.ImagesSpec(kind="images", path=str(tmp_path / "none")).list_files()
    with pytest.raises(FileNotFoundError, match="no image file"):
        images.ImagesSpec(kind="images", path=str(tmp_path)).list_files()


def test_every_photo_of_scikit_image_is_there_and_readable():
    spec = images.ImagesSpec(kind="skimage")
    assert len(spec.list_files()) == len(images.SKIMAGE_PHOTOS)
    for name in spec.list_files():
        assert min(read_photo(spec.folder / name).image.shape) > 100


def test_parts_split_the_sources_without_overlap(tmp_path, grey):
    for k in range(10):
        Image.fromarray(grey).save(tmp_path / f"{k}.png")

    def part(*shares):
        return images.ImagesSpec(kind="images", path=str(tmp_path), part=shares).list_files()

    assert part(0.0, 0.45) == [f"{k}.png" for k in range(4)]
    assert part(0.55, 1.0) == [f"{k}.png" for k in range(6, 10)]
    assert part(0.0, 0.5) + part(0.5, 1.0) == part(0.0, 1.0)
    with pytest.raises(FileNotFoundError, match="sources is empty; widen it"):
        part(0.5, 0.51)
    for wrong in ((0.5, 0.5), (0.2, 1.5)):
        with pytest.raises(ValueError, match="within 0 and 1"):
            part(*wrong)
