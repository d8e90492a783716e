"""The documentation cannot lie: its snippets run, every verb is in it, and the links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from convatlas import zoo
from convatlas.cli.verbs import app
from convatlas.transfer import finetune

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
VERBS = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]


def snippets(language: str) -> list[tuple[Path, str]]:
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [(page, code) for page in PAGES for code in pattern.findall(page.read_text(encoding="utf-8"))]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with what the snippets speak of: `photos`, `new.jpg`, a weights file with its card, class names. What trains
    beyond a probe is short."""
    monkeypatch.setattr(finetune, "STEPS", 8)
    monkeypatch.setattr(finetune, "LEAST_EPOCHS", 1)
    monkeypatch.setattr(finetune, "SCRATCH", 1)
    generator = np.random.default_rng(0)
    for label, tint in (("ants", (200, 40, 40)), ("bees", (40, 40, 200))):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(6):
            noise = generator.integers(0, 55, (40, 48, 3)) + np.array(tint)
            Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(tmp_path / "photos" / label / f"{i}.png")
    Image.new("RGB", (60, 50), "red").save(tmp_path / "new.jpg")
    torch.manual_seed(0)
    save_file(zoo.build("mobilenet_v1_025", num_classes=3).state_dict(), tmp_path / "mobilenet.safetensors")
    card = {
        "architecture": "mobilenet_v1",
        "width": 0.25,
        "input_size": [3, 64, 64],
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    (tmp_path / "mobilenet.json").write_text(json.dumps(card))
    (tmp_path / "classes.txt").write_text("ant\nbee\nwasp\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("page", "code"), snippets("python"), ids=lambda value: value.name if isinstance(value, Path) else ""
)
def test_python_snippets_run(page: Path, code: str, place: Path) -> None:
    exec(compile(code, str(page), "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize(
    ("page", "code"), snippets("console"), ids=lambda value: value.name if isinstance(value, Path) else ""
)
def test_console_snippets_run(page: Path, code: str, place: Path) -> None:
    for line in code.splitlines():
        words = shlex.split(line.removeprefix("$ "))
        assert words[0] == "convatlas", line
        outcome = CliRunner().invoke(app, words[1:], catch_exceptions=False)
        assert outcome.exit_code == 0, (line, outcome.output)


@pytest.mark.parametrize("verb", [*VERBS, "cache"])
def test_every_verb_is_documented(verb: str) -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert f"convatlas {verb.rstrip('_')}" in text or f"make {verb}" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
