"""hf:// names are what the hub's cache has; other names are paths and never leave this machine."""

import os
import subprocess
import sys
from pathlib import Path

from frostline_trainer.hub import local_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SCRIPT = """
import sys
from frostline_trainer.contract import ModelSpec
from frostline_trainer.data.shape import DataShape
from frostline_trainer.errors import StudyFault
from frostline_trainer.models.build import build_network
for name in sys.argv[1:]:
    model = ModelSpec(family="CausalLM", pretrained=name)
    try:
        network = build_network(model, DataShape("Text", (16,), 64), 0)
        weights = sum(p.numel() for p in network.module().parameters())
        print(network.module().config.model_type, weights)
    except StudyFault as fault:
        print("fault:", fault)
"""


def offline(home: Path, *names: str) -> list[str]:
    """What a trainer makes of names, with this cache and without a network."""
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *names], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_models_are_taken_from_the_hubs_cache_by_their_names(tmp_path: Path) -> None:
    import transformers

    config = transformers.GPT2Config(vocab_size=64, n_positions=16, n_embd=8, n_layer=2, n_head=2)
    made = transformers.GPT2LMHeadModel(config)
    repository = tmp_path / "hub" / "models--team--tiny"
    made.save_pretrained(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)

    by_name, by_commit, missing, wrong = offline(
        tmp_path, "hf://team/tiny", f"hf://team/tiny@{COMMIT}", "hf://team/other", "hf://a/b/c"
    )

    assert by_name == by_commit == f"gpt2 {sum(p.numel() for p in made.parameters())}"
    # Nothing may be downloaded here: what is missing stays missing, however often it is tried
    assert missing.startswith("fault: model.pretrained: hf://team/other is not below HF_HOME")
    assert "hf://owner/model@revision" in wrong


def test_paths_are_left_as_they_are() -> None:
    assert local_folder("/models/pythia", "model.pretrained") == "/models/pythia"
