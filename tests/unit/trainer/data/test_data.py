"""Where data comes from, how it is split, and what a wrong source says."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from frostline_trainer.contract import DataSpec, TrainingSpec
from frostline_trainer.data.builtin import breast_cancer, digits
from frostline_trainer.data.open import data_shape, open_data
from frostline_trainer.errors import StudyFault

TRAINING = TrainingSpec(sequence_length=16)


def spec(kind: str, **fields: Any) -> DataSpec:
    return DataSpec(kind=kind, **fields)  # type: ignore[arg-type]


def test_targets_of_text_are_the_next_tokens(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abcdefghijklmnopqrstuvwxyz" * 40)
    source = open_data(spec("Text", path=str(tmp_path / "a.txt")), TRAINING, 0)
    x, y = source.training(torch.tensor([0, 3]), 0)
    assert bytes(x[0].tolist()) == b"abcdefghijklmnop" and bytes(y[0].tolist()) == b"bcdefghijklmnopq"
    assert torch.equal(x[:, 1:], y[:, :-1])
    assert source.shape.classes == 256 and source.shape.tokens_per_sample == 16


def test_the_held_out_text_is_not_trained_on(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"t" * 900 + b"v" * 100)
    source = open_data(spec("Text", path=str(tmp_path / "a.txt")), TRAINING, 0)
    x, y = source.training(torch.arange(source.train_samples), 0)
    assert set(x.flatten().tolist()) | set(y.flatten().tolist()) == {ord("t")}
    assert set(source.validation(0, source.valid_samples)[0].flatten().tolist()) == {ord("v")}


def test_a_folder_of_text_reads_alike_on_every_machine(tmp_path: Path) -> None:
    for name in ("b", "a", "sub/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name[-1] * 200)
    source = open_data(spec("Text", path=str(tmp_path)), TRAINING, 0)
    again = open_data(spec("Text", path=str(tmp_path)), TRAINING, 1)
    everything = torch.arange(source.train_samples)
    assert torch.equal(source.training(everything, 0)[0], again.training(everything, 0)[0])


def test_python_docs_are_english_text() -> None:
    source = open_data(spec("Text", builtin="python-docs"), TRAINING, 0)
    text = bytes(source.training(torch.arange(1000), 0)[0].flatten().tolist()).decode(errors="ignore")
    assert source.train_samples > 10_000 and text.count(" the ") > 50


def test_a_datasets_folder_uses_its_column_and_its_own_split(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    parts = {"train": ["x" * 200] * 3, "validation": ["y" * 50]}
    datasets.DatasetDict({k: datasets.Dataset.from_dict({"body": v}) for k, v in parts.items()}).save_to_disk(
        tmp_path / "d"
    )
    source = open_data(spec("Text", path=str(tmp_path / "d"), text_column="body"), TRAINING, 0)
    assert set(source.training(torch.arange(source.train_samples), 0)[0].flatten().tolist()) == {ord("x")}
    assert set(source.validation(0, source.valid_samples)[0].flatten().tolist()) == {ord("y")}
    with pytest.raises(StudyFault, match=r"data.textColumn: no column 'text'; there are body"):
        open_data(spec("Text", path=str(tmp_path / "d")), TRAINING, 0)


def test_a_tokenizer_comes_from_a_local_folder(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<unk>": 0, "hello": 1, "world": 2}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>").save_pretrained(tmp_path / "tok")
    (tmp_path / "a.txt").write_text("hello world " * 200)
    source = open_data(spec("Text", path=str(tmp_path / "a.txt"), tokenizer=str(tmp_path / "tok")), TRAINING, 0)
    assert source.shape.classes == 3
    assert source.training(torch.tensor([0]), 0)[0][0, :4].tolist() == [1, 2, 1, 2]


def test_tables_are_standardised_with_training_statistics_only(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(5, 3, (200, 4)).astype(np.float32), np.arange(200) % 2
    np.savez(tmp_path / "t.npz", x=x, y=y, x_valid=x[:50] + 100, y_valid=y[:50])
    source = open_data(spec("Table", path=str(tmp_path / "t.npz")), TRAINING, 0)
    train = source.training(torch.arange(200), 0)[0]
    assert train.mean(0).abs().max() < 1e-5 and (train.std(0, correction=0) - 1).abs().max() < 1e-5
    assert source.validation(0, 50)[0].mean() > 20


def test_a_csv_may_have_words_missing_values_and_named_classes(tmp_path: Path) -> None:
    rows = "".join(
        f"{i},{'red' if i % 2 else 'blue'},{'' if i == 3 else i * 2},{'yes' if i % 3 else 'no'}\n" for i in range(40)
    )
    (tmp_path / "t.csv").write_text("a,colour,b,bought\n" + rows)
    source = open_data(spec("Table", path=str(tmp_path / "t.csv"), target_column="bought"), TRAINING, 0)
    assert source.shape.input == (4,) and source.shape.classes == 2
    assert source.train_samples == 36 and source.valid_samples == 4
    assert torch.isfinite(source.training(torch.arange(36), 0)[0]).all()


def test_built_in_data_is_what_scikit_learn_loads() -> None:
    from sklearn.datasets import load_breast_cancer, load_digits

    for ours, theirs in ((breast_cancer(), load_breast_cancer(return_X_y=True)), (digits(), load_digits())):
        rows, target = theirs if isinstance(theirs, tuple) else (theirs.images, theirs.target)
        assert np.array_equal(ours[0], rows) and np.array_equal(ours[1], target)


def test_digits_become_normalised_images_of_three_channels() -> None:
    source = open_data(spec("Images", builtin="digits", image_size=16), TRAINING, 0)
    x, y = source.training(torch.arange(64), 0)
    assert x.shape == (64, 3, 16, 16) and torch.equal(x[:, 0], x[:, 2]) and y.max() < 10
    assert abs(float(x.mean())) < 0.2


def test_training_and_held_out_samples_do_not_overlap() -> None:
    source = open_data(spec("Images", builtin="digits", validation_fraction=0.3), TRAINING, 0)
    assert source.train_samples + source.valid_samples == 1797
    train = {row.numpy().tobytes() for row in source.training(torch.arange(source.train_samples), 0)[0]}
    held = [row.numpy().tobytes() for row in source.validation(0, source.valid_samples)[0]]
    assert sum(row in train for row in held) <= 2  # the data set itself repeats next to nothing


def test_augmentation_depends_on_seed_and_position_only() -> None:
    source = open_data(spec("Images", builtin="digits", image_size=16, augment=True), TRAINING, 0)
    rows = torch.arange(8)
    assert source.augmented
    assert torch.equal(source.training(rows, 5)[0], source.training(rows, 5)[0])
    assert not torch.equal(source.training(rows, 5)[0], source.training(rows, 6)[0])
    assert torch.equal(source.validation(0, 8)[0], source.validation(0, 8)[0])


def test_an_image_folder_is_decoded_to_the_size_asked_for(tmp_path: Path) -> None:
    for label, colour in (("cat", 255), ("dog", 0)):
        (tmp_path / label).mkdir()
        for i in range(6):
            Image.new("RGB", (20 + i, 30), (colour, 0, 0)).save(tmp_path / label / f"{i}.png")
    source = open_data(spec("Images", path=str(tmp_path), image_size=16), TRAINING, 0)
    x, y = source.training(torch.arange(source.train_samples), 0)
    assert x.shape[1:] == (3, 16, 16) and source.shape.classes == 2
    assert all((image[0].mean() > 0) == (label == 0) for image, label in zip(x, y, strict=True))


def test_a_torchvision_data_set_is_read_from_disk(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    from torchvision.datasets import CIFAR10

    generator = np.random.default_rng(0)
    for name, _ in [*CIFAR10.train_list, *CIFAR10.test_list]:
        images = generator.integers(0, 255, (4, 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": images, "labels": [0, 1, 2, 3]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    with pytest.MonkeyPatch.context() as patch:  # the files are made up, so their checksums are too
        patch.setattr(CIFAR10, "_check_integrity", lambda self: True)
        patch.setattr("torchvision.datasets.cifar.check_integrity", lambda *a: True)
        source = open_data(spec("Images", path=str(tmp_path), torchvision="CIFAR10"), TRAINING, 0)
    assert source.train_samples == 20 and source.valid_samples == 4
    assert source.training(torch.arange(2), 0)[0].shape == (2, 3, 32, 32)


def test_the_shape_of_text_is_known_without_reading_it() -> None:
    shape = data_shape(spec("Text", path="/not/there"), TRAINING)
    assert shape.input == (16,) and shape.classes == 256


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "Text", "path": "/not/there"}, r"data.path: there is no /not/there"),
        ({"kind": "Text", "path": "{folder}/empty"}, r"data.path: the folder .* holds no files"),
        ({"kind": "Text", "path": "{folder}/short.txt"}, r"training.sequenceLength: .*lower sequenceLength"),
        ({"kind": "Text", "path": "{folder}/short.npz"}, r"cannot be read as UTF-8 text"),
        ({"kind": "Text", "builtin": "python-docs", "tokenizer": "/no/tok"}, r"data.tokenizer: .*give `bytes`"),
        (
            {"kind": "Table", "path": "{folder}/t.csv"},
            r"data.targetColumn: t.csv has no column 'target'; there are a, b",
        ),
        ({"kind": "Table", "path": "{folder}/short.npz"}, r"needs arrays x and y, it has z"),
        ({"kind": "Images", "path": "{folder}/empty"}, r"no image folder \(one subfolder per class"),
        ({"kind": "Images", "path": "{folder}", "torchvision": "CIFAR11"}, r"torchvision has no data set 'CIFAR11'"),
        (
            {"kind": "Images", "path": "{folder}", "torchvision": "CIFAR100"},
            r"does not hold CIFAR100.*nothing is downloaded",
        ),
    ],
)
def test_a_wrong_source_is_the_studys_fault_and_names_field_and_remedy(
    fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "short.txt").write_text("short")
    np.savez(tmp_path / "short.npz", z=np.arange(3))
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,4\n")
    filled = {k: v.replace("{folder}", str(tmp_path)) for k, v in fields.items()}
    with pytest.raises(StudyFault, match=message):
        open_data(DataSpec(**filled), TRAINING, 0)
