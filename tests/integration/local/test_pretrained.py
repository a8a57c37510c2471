"""The recipe for fine-tuning, as a person writes it: a folder of weights and a file of text."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from .conftest import Study, environment, frostline

SAVE = """
import sys, transformers, tokenizers
folder, corpus = sys.argv[1:]
words = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
words.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
words.decoder = tokenizers.decoders.ByteLevel()
trainer = tokenizers.trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>", "<|endoftext|>"])
words.train([corpus], trainer)
saved = transformers.PreTrainedTokenizerFast(
    tokenizer_object=words, eos_token="<|endoftext|>", unk_token="<unk>"
)
saved.save_pretrained(folder)
config = transformers.GPTNeoXConfig(
    vocab_size=len(saved), hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64,
    max_position_embeddings=64, bos_token_id=1, eos_token_id=1,
)
transformers.GPTNeoXForCausalLM(config).save_pretrained(folder)
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Study:
    """docs/recipes.md's first study with a small model, a small text and a tokenizer made from it."""
    corpus, folder = tmp_path / "corpus.txt", tmp_path / "tiny-neox"
    corpus.write_text("\n\n".join(topics.values()), encoding="utf-8")
    subprocess.run([sys.executable, "-c", SAVE, str(folder), str(corpus)], check=True, env=environment())
    return {
        "apiVersion": "hpo.frostline.dev/v1alpha1",
        "kind": "HPOStudy",
        "metadata": {"name": "finetune"},
        "spec": {
            "objective": {"metric": "loss", "direction": "Minimize"},
            "parameters": [
                {"name": "lr", "type": "Float", "min": 1e-6, "max": 1e-3, "scale": "Log"},
                {"name": "warmup", "type": "Float", "min": 0.0, "max": 0.2},
            ],
            "search": {"algorithm": "ASHA", "trials": 4, "parallelism": 2, "initial": [{"lr": 2e-5, "warmup": 0.1}]},
            "fidelity": {"layers": {"min": 2, "max": "All"}, "tokens": {"max": 4096}},
            "model": {"family": "CausalLM", "pretrained": str(folder)},
            "data": {"kind": "Text", "path": str(corpus), "tokenizer": str(folder), "validationLimit": 2048},
            "training": {"batchSize": 4, "accumulation": 2, "sequenceLength": 32, "activationCheckpointing": True},
        },
    }


def test_a_pretrained_model_is_planned_and_tuned(recipe: Study, write: Callable[[Study], Path], tmp_path: Path) -> None:
    manifest = write(recipe)
    plan = frostline("plan", manifest, "--gpu", "8Gi")
    assert plan.returncode == 0, plan.stdout + plan.stderr
    assert "5" in plan.stdout and "8Gi" in plan.stdout
    done = frostline("run", manifest, "--dir", tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "best" in (done.stdout + done.stderr).lower()


def test_code_that_comes_with_a_folder_is_not_run_and_the_study_says_so(
    recipe: Study, write: Callable[[Study], Path], tmp_path: Path
) -> None:
    folder, witness = Path(recipe["spec"]["model"]["pretrained"]), tmp_path / "ran"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "unheard_of", "auto_map": {"AutoConfig": "code.Config"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "code.py").write_text(f"open({str(witness)!r}, 'w').close()", encoding="utf-8")
    plan = frostline("plan", write(recipe), "--gpu", "8Gi")
    assert plan.returncode != 0 and "model.pretrained" in plan.stdout + plan.stderr
    assert not witness.exists()
