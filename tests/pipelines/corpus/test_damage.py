"""Damage of every file of a corpus is found, mended or refused in a sentence, and never read as values."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
import zarr
from corpus_forms import as_earlier, exchange, flip, rewrite
from trainings import settings
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.cluster import IN_PROCESS
from pipelines.corpus.build import build
from pipelines.corpus.verify import verify
from pipelines.errors import CorpusExistsError
from recon.data.datasets import PairDataset
from recon.data.loader import make_loader
from recon.training.loop import train
from synth.corpus.documents import read_document
from synth.corpus.ledger import Ledger
from synth.corpus.reader import open_corpus
from synth.errors import CorpusError, FathomError, ShardError
from synth.stages.coil_library import open_library
from synth.storage.shard import crc32c_of

BUCKET = "c4-y48-x56"


@pytest.fixture
def copy(corpus, tmp_path):
    return shutil.copytree(corpus, tmp_path / "c.zarr")


def is_mended(recipe, copy, corpus):
    made = build(recipe(), copy, IN_PROCESS)
    return made.status == "mended" and made.content_hash == open_corpus(corpus).content_hash and verify(copy).intact


def edited(file, change):
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document, indent=2))


LEDGERS = {
    "rows that are numbers": lambda entry: entry.update(rows=[5] * len(entry["rows"])),
    "rows without numbers": lambda entry: [row.pop("numbers") for row in entry["rows"]],
    "words as numbers": lambda entry: entry["rows"][0]["numbers"].update(scale="large", coils_height="high"),
    "numbers that form no array": lambda entry: entry["rows"][0]["numbers"].update(scale=[1, [2]], coils_height=[]),
    "findings that are lists": lambda entry: entry["rows"][0].update(findings=[["jpeg"]], numbers={"a": None}),
    "a rejection that is a number": lambda entry: entry.update(rejected=[3]),
    "other shapes": lambda entry: entry["rows"][-1]["numbers"].update(scale=[1.0, 2.0], coils_height=1.0),
    "another name of a number": lambda entry: entry["rows"][-1]["numbers"].update(coils_heighu=1.0, scalf=1.0),
    "void of a number": lambda entry: entry.update(void=entry.pop("task")) or entry.update(void=5),
}


@pytest.mark.parametrize("summed", [True, False])
@pytest.mark.parametrize("case", LEDGERS)
def test_a_damaged_ledger_is_found_and_mended(case, summed, recipe, corpus, copy):
    rewrite(copy, LEDGERS[case], summed=summed)
    assert not verify(copy).intact
    assert is_mended(recipe, copy, corpus)


DOCUMENTS = {
    "a list": lambda file: file.write_text("[]"),
    "a number": lambda file: file.write_text("5"),
    "nothing": lambda file: file.write_text("{}"),
    "brackets without end": lambda file: file.write_text("[" * 100_000),
    "no UTF-8": lambda file: file.write_bytes(b'{"\xd4": 1}'),
}


@pytest.mark.parametrize(
    "name", ["zarr.json", "summary.json", f"{BUCKET}/kspace/zarr.json", f"{BUCKET}/sigma/zarr.json"]
)
@pytest.mark.parametrize("case", DOCUMENTS)
def test_a_document_that_says_something_else_is_found_and_mended(case, name, recipe, corpus, copy):
    DOCUMENTS[case](copy / name)
    assert not verify(copy).intact
    if name != "summary.json":  # datasets do not read it
        with pytest.raises(CorpusError, match="fathom build"):
            PairDataset(copy)
    assert is_mended(recipe, copy, corpus)


@pytest.mark.parametrize("change", [{"fathom": []}, {"fathom": {"schema": 1, "complete": True}}, {"fathom": 5}])
def test_attributes_that_lack_something_are_damage(change, recipe, corpus, copy):
    edited(copy / "zarr.json", lambda root: root.update(attributes=change))
    assert not verify(copy).intact
    with pytest.raises(CorpusError, match=r"zarr\.json"):
        PairDataset(copy)
    assert is_mended(recipe, copy, corpus)


def test_names_of_sources_are_bound_to_the_pairs(recipe, corpus, tmp_path):
    names = json.loads((corpus / "sources.json").read_text())
    renamed, exchanged = ["photo9.png", *names[1:]], [*names[1:], names[0]]
    for number, wrong in enumerate((renamed, names[::-1], exchanged)):
        for earlier in (False, True):
            copy = shutil.copytree(corpus, tmp_path / f"{number}{earlier}.zarr")
            if earlier:
                as_earlier(copy)
            (copy / "sources.json").write_text(json.dumps(wrong))
            assert any(f"sources.json names {wrong[0]} for pair 0" in problem for problem in verify(copy).problems)
            with pytest.raises(CorpusExistsError, match=r"restore sources\.json"):
                build(recipe(), copy, IN_PROCESS)


def test_a_source_that_no_pair_was_made_from_is_bound_by_the_seal(recipe, tmp_path):
    build(recipe(pairs=4), tmp_path / "c.zarr", IN_PROCESS)  # of six photographs
    file = tmp_path / "c.zarr" / "sources.json"
    file.write_text(file.read_text().replace("photo5", "photo8"))
    assert "sources.json names other files" in verify(tmp_path / "c.zarr").problems[0]
    assert "sources.json" in verify(as_earlier_of(file.parent)).not_covered


def as_earlier_of(corpus):
    return as_earlier(shutil.copytree(corpus, corpus.with_name("earlier.zarr")))


def test_every_byte_of_the_roots_metadata_counts(corpus, copy):
    draw, file = np.random.default_rng(4), copy / "zarr.json"
    whole = file.read_bytes()
    for place, change in zip(draw.integers(len(whole), size=20), draw.integers(1, 256, size=20), strict=True):
        flip(file, place, change)
        try:
            assert not verify(copy).intact, place
        except CorpusError as error:
            assert "zarr.json" in str(error) or "unfinished" in str(error) or "schema" in str(error)  # noqa: PT017
        file.write_bytes(whole)


def test_consolidated_metadata_must_agree_and_those_of_further_arrays_may_be_there(recipe, corpus, copy):
    def doubled(root):
        root["consolidated_metadata"]["metadata"][f"{BUCKET}/kspace"]["data_type"] = "complex128"

    edited(copy / "zarr.json", doubled)
    assert zarr.open_group(copy, mode="r")[f"{BUCKET}/kspace"].dtype == np.complex128  # what other readers would see
    assert "zarr.json" in verify(copy).problems[0]
    assert is_mended(recipe, copy, corpus)
    zarr.create_array(copy / BUCKET / "mine", shape=(3,), dtype="f4")
    flip(copy / "README.md", 9)
    assert is_mended(recipe, copy, corpus)  # and the further array is in the consolidated metadata now
    assert verify(copy).not_covered == {f"{BUCKET}/mine/": "is not part of the corpus"}


@pytest.mark.parametrize("name", ["README.md", "croissant.json", "ledger.jsonl"])
def test_documents_without_another_copy_have_a_checksum(name, recipe, corpus, copy):
    if name == "ledger.jsonl":
        text = (copy / name).read_text()
        (copy / name).write_text(text.replace('"seconds": ', '"seconds":  ', 1))
    else:
        flip(copy / name, 40)
    assert any(name in problem or "not in the ledger" in problem for problem in verify(copy).problems)
    assert is_mended(recipe, copy, corpus)


def test_versions_in_the_summary_are_those_of_the_ledger(recipe, corpus, copy):
    for name in ("summary.json", "zarr.json"):
        (copy / name).write_text((copy / name).read_text().replace('"python": "3', '"python": "2'))
    assert any("does not agree with the ledger" in problem for problem in verify(copy).problems)
    assert is_mended(recipe, copy, corpus)


def test_what_is_no_part_of_the_corpus_is_listed(copy):
    assert verify(copy).not_covered == {}
    (copy / "notes.txt").write_text("mine")
    shutil.copytree(copy / BUCKET / "sigma", copy / BUCKET / "tau")
    (copy / BUCKET / "kspace" / "c" / "0" / "0" / "0" / "0.partial").write_text("a crash")
    found = verify(copy)
    assert found.intact
    assert set(found.not_covered) == {"notes.txt", f"{BUCKET}/tau/", f"{BUCKET}/kspace/c/0/0/0/0.partial"}


def test_an_earlier_corpus_verifies_reads_and_is_mended_into_todays_form(recipe, corpus, copy):
    as_earlier(copy)
    found = verify(copy)
    assert found.intact
    assert {"README.md", "croissant.json", "ledger.jsonl", "exchanged shards"} == set(found.not_covered)
    assert torch.equal(PairDataset(copy)[3]["masked_kspace"], PairDataset(corpus)[3]["masked_kspace"])
    assert build(recipe(), copy, IN_PROCESS).status == "already there"
    (copy / BUCKET / "target" / "c" / "1" / "0" / "0").unlink()
    assert is_mended(recipe, copy, corpus)
    assert verify(copy).not_covered == {}
    for name in ("kspace", "mask", "target", "maps"):
        mended, whole = (open_corpus(path).buckets[0].numbers(f"{name}_crc32c") for path in (copy, corpus))
        np.testing.assert_array_equal(mended, whole)


def shards(corpus, array):
    return sorted(path for path in (corpus / BUCKET / array / "c").rglob("*") if path.is_file())


@pytest.mark.parametrize("array", ["kspace", "target"])
def test_exchanged_shards_are_not_read(array, recipe, corpus, copy):
    exchange(*shards(copy, array)[:2])
    np.testing.assert_array_equal(
        zarr.open_array(copy / BUCKET / array)[:3], zarr.open_array(corpus / BUCKET / array)[3:6]
    )
    pairs = PairDataset(copy)
    with pytest.raises(ShardError, match="is not what was written there; run `fathom verify`"):
        pairs[0]
    with pytest.raises(ShardError, match="is not what was written there"):
        list(make_loader(pairs, 4, shuffle=False, device="cpu"))
    assert torch.equal(
        pairs[7][array if array != "kspace" else "masked_kspace"],
        PairDataset(corpus)[7][array if array != "kspace" else "masked_kspace"],
    )
    assert is_mended(recipe, copy, corpus)


@pytest.mark.parametrize("array", ["kspace", "mask", "target", "maps"])
def test_what_is_gone_or_cut_is_not_exported_or_shown(array, copy, tmp_path):
    """Of a file that is gone, zarr reads the fill value."""
    (shard, *_) = sorted(p for p in copy.glob(f"*/{array}/c/**/*") if p.is_file())
    for change, told in ((lambda: os.truncate(shard, 100), "its index is damaged"), (shard.unlink, "is gone")):
        change()
        for words in (["export", copy, "--to", "cfl"], ["inspect", copy]):
            made = CliRunner().invoke(app, [*map(str, words), "--out", str(tmp_path / "out")])
            assert made.exit_code == 1
            assert f"{shard}: {told}; run `fathom verify`, then `fathom build`" in made.stderr
            assert not (tmp_path / "out").exists()
        if array == "maps":
            with pytest.raises(ShardError, match=told):
                open_library(str(copy)).read(0)


@pytest.mark.parametrize("kept", [None, 0, 2])
def test_sources_are_not_read_from_a_ledger_that_lacks_some(kept, corpus, copy, tmp_path):
    """What leaks, what was trained on and what intervals are over would be wrong without a word."""
    lines = (copy / "ledger.jsonl").read_text().splitlines(keepends=True)
    (copy / "ledger.jsonl").unlink()
    if kept is not None:
        (copy / "ledger.jsonl").write_text("".join(lines[:kept]))
    out = ["--out", str(tmp_path / "out")]
    for words in (
        ["leakage", str(corpus), str(copy)],
        ["leakage", str(copy), str(corpus)],
        ["test", "zero-filled", str(copy), *out],
        ["export", str(copy), "--to", "cfl", *out],
        ["train", "first", "--set", f'data.corpora=["{copy}"]', "--device", "cpu", *out],
    ):
        made = CliRunner().invoke(app, words)
        assert made.exit_code == 1
        assert "its ledger is damaged; run `fathom verify`, then the same `fathom build`" in made.stderr
        assert not (tmp_path / "out").exists()


def test_maps_and_numbers_of_another_place_are_not_read(corpus, copy):
    (shard,) = shards(copy, "maps")
    chunk = 8 * 4 * 48 * 56 + 4  # a map set of complex64, and its crc32c
    data = shard.read_bytes()
    shard.write_bytes(data[chunk : 2 * chunk] + data[:chunk] + data[2 * chunk :])
    assert len({int(PairDataset(corpus)._numbers[0]["maps_index"][k]) for k in range(10)}) == 2
    with pytest.raises(ShardError, match="is not what was written there"):
        PairDataset(copy)[0]
    exchange(copy / BUCKET / "sigma" / "c" / "0", copy / BUCKET / "scale" / "c" / "0")
    with pytest.raises(CorpusError, match="is not what was written there"):
        PairDataset(copy)


def crc32c(data):
    """Bit by bit: Castagnoli's polynomial 0x1EDC6F41, reversed (RFC 3720, appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def test_the_stored_checksums_are_crc32c_of_the_rows(corpus):
    assert crc32c(b"123456789") == 0xE3069283 == crc32c_of(np.frombuffer(b"123456789", np.uint8))
    bucket = zarr.open_group(corpus, mode="r")[BUCKET]
    for name in ("mask", "target"):
        assert [crc32c(row.tobytes()) for row in bucket[name][:2]] == bucket[f"{name}_crc32c"][:2].tolist()
    sealed = json.loads((corpus / "zarr.json").read_text())["attributes"]["fathom"]["sealed"]
    assert sealed["crc32c"][f"{BUCKET}/sigma"] == crc32c(bucket["sigma"][:].tobytes())


def test_a_line_of_the_ledger_that_changed_does_not_count(copy):
    lines = (copy / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    place = lines[1].index(b'"seconds": ') + 11
    lines[1] = lines[1][:place] + b"9" + lines[1][place + 1 :]
    (copy / "ledger.jsonl").write_bytes(b"".join(lines))
    assert len(Ledger(copy).read()) == len(lines) - 1


def test_a_document_with_another_layout_is_not_read(tmp_path):
    file = tmp_path / "a.json"
    for text, good in (('{\n  "a": 1\n}', True), ('{"a": 1}', True), ('{ "a": 1}', False), ('{"a": 0e0}', False)):
        file.write_text(text)
        assert (read_document(file) is not None) == good


def test_verify_does_not_advise_to_verify(copy):
    file = next(path for path in (copy / BUCKET / "kspace" / "c").rglob("*") if path.is_file())
    flip(file, 100, 1)
    (problem,) = verify(copy).problems
    assert problem.endswith("chunk 0 is damaged")
    with pytest.raises(ShardError, match="run `fathom verify`, then `fathom build`"):
        [*PairDataset(copy)]


def test_flips_anywhere_are_found_and_never_read_as_values(corpus, copy):
    draw, right = np.random.default_rng(8), PairDataset(corpus)
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    for file in (files[k] for k in draw.integers(len(files), size=15)):
        whole = file.read_bytes()
        flip(file, int(draw.integers(len(whole))), int(draw.integers(1, 256)))
        try:
            assert not verify(copy).intact, file
        except CorpusError as error:
            assert file.name in str(error) or "unfinished" in str(error)  # noqa: PT017
        try:
            pairs = PairDataset(copy)
            items = [pairs[k] for k in range(len(pairs))]
        except FathomError:
            items = []
        assert all(torch.equal(item[n], right[k][n]) for k, item in enumerate(items) for n in item), file
        file.write_bytes(whole)


def test_the_command_lists_what_is_not_covered_and_checks_trainings(copy, tmp_path):
    as_earlier(copy)
    text = CliRunner().invoke(app, ["verify", str(copy)]).output
    assert "not covered: README.md: an earlier version of Fathom wrote the corpus, which kept no checksum" in text
    train(settings(copy, training={"steps": 1}), tmp_path / "out", device="cpu")
    found = CliRunner().invoke(app, ["verify", str(tmp_path / "out")])
    assert (found.exit_code, "intact" in found.output) == (0, True)
    assert "not covered: metrics.jsonl: is a log" in found.output
    flip(tmp_path / "out" / "model.safetensors", -1)
    found = CliRunner().invoke(app, ["verify", str(tmp_path / "out"), "--json"])
    assert found.exit_code == 1
    assert "its checksum differs" in json.loads(found.stdout)["problems"][0]
