"""Object detectors and CLIP from folders, with random weights: the ways are real, what they find is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import skimage.data
import torch
from PIL import Image
from transformers import pipeline
from transformers.utils import logging

from jobs.auditing.weights_here import copies_here
from originality.contract.config import SettingsError
from originality.contract.scorer import Item
from originality.evaluation.in_distribution import load_check, subject_by_text
from originality.evaluation.in_distribution.scene import SubjectInScene, load_detector
from originality.evaluation.in_distribution.subject_by_boxes import SubjectByBoxes
from originality.evaluation.in_distribution.subject_by_text import SubjectByText
from originality.model.diffusion import LatentDiffusion
from originality.model.transformers_folder import WEIGHTS
from originality.settings.audit import AuditSettings
from originality.settings.domains import edit_prompt
from originality.settings.parts import InDistributionSettings, ModelSettings
from originality.settings.presets import load_settings
from originality.sweep.preflight import preflight
from originality.sweep.sweep import Sweep
from originality.vision.clip import PROMPT, load_clip
from tests.support.tiny_detectors import OBJECT_DETECTORS, tiny_clip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each kind; only ever read."""
    kinds = {**OBJECT_DETECTORS, "clip": tiny_clip}
    return {kind: build(tmp_path_factory.mktemp(kind)) for kind, build in kinds.items()}


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """uint8 (5, 90, 90, 3)."""
    three = (skimage.data.chelsea(), skimage.data.coffee(), skimage.data.astronaut())
    crops = [Image.fromarray(p[k : k + 200, k : k + 200]).resize((90, 90)) for p in three for k in (0, 90)]
    return np.stack([np.asarray(crop) for crop in crops[:5]])


def asking(detector: str, folder: Path) -> InDistributionSettings:
    return InDistributionSettings(check="editability", detector=detector, folder=str(folder))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", OBJECT_DETECTORS)
def test_a_score_is_that_of_the_best_box_in_transformers_own_pipeline(
    kind: str, folders: dict[str, Path], photos: np.ndarray
) -> None:
    detect = pipeline("object-detection", model=str(folders[kind]), device="cpu")
    boxes = detect([Image.fromarray(photo) for photo in photos], threshold=0.0)
    found: list[float] = []
    for label in ("N/A", "person", "Cat", "dog", "motorcycle"):
        expected = [max((b["score"] for b in of if b["label"] == label), default=0.0) for of in boxes]
        scores = SubjectByBoxes(label, folders[kind]).scores(photos)
        np.testing.assert_allclose(scores, expected, atol=1e-6)
        found += list(scores)
    assert len(set(found)) >= len(photos)  # photos are told apart, else there was nothing to compare


def test_probabilities_are_those_of_transformers_own_pipeline(
    folders: dict[str, Path], photos: np.ndarray
) -> None:
    words = ["cat", "dog", "house", "red circle"]
    ask = pipeline("zero-shot-image-classification", model=str(folders["clip"]), device="cpu")
    ours = load_clip(folders["clip"]).probabilities(photos, [PROMPT.format(word) for word in words])
    assert ours.shape == (5, 4) and ours.dtype == np.float64
    np.testing.assert_allclose(ours.sum(axis=1), 1, atol=1e-12)
    for photo, row in zip(photos, ours, strict=True):
        messages = ask(Image.fromarray(photo), candidate_labels=words, hypothesis_template=PROMPT)
        expected = {output["label"]: output["score"] for output in messages}
        np.testing.assert_allclose(row, [expected[word] for word in words], atol=1e-5)


@pytest.mark.parametrize("kind", OBJECT_DETECTORS)
def test_neighbours_change_no_bit_of_a_score(kind: str, folders: dict[str, Path], photos: np.ndarray) -> None:
    detector = SubjectByBoxes("motorcycle" if kind == "detr" else "cat", folders[kind], batch_size=3)
    together = detector.scores(photos)
    assert len(set(together)) > 1
    for photo, score in zip(photos, together, strict=True):
        assert detector.scores(photo[None])[0] == score


def test_neighbours_change_no_bit_of_a_probability(folders: dict[str, Path], photos: np.ndarray) -> None:
    texts = ["a photo of a cat", "a photo of a dog", "a drawing"]
    model = load_clip(folders["clip"], batch_size=3)
    together = model.probabilities(photos, texts)
    for photo, row in zip(photos, together, strict=True):
        assert np.array_equal(model.probabilities(photo[None], texts)[0], row)
    turned = load_clip(folders["clip"], batch_size=3).probabilities(photos, texts[::-1])
    np.testing.assert_allclose(turned[:, ::-1], together, rtol=1e-12)


def test_clip_s_subject_is_asked_for_among_other_things(folders: dict[str, Path], photos: np.ndarray) -> None:
    texts = ["a photo of a Cat"]
    texts += [f"a photo of a {word}" for word in subject_by_text.OTHERS if word != "cat"]
    texts += subject_by_text.SCENES
    expected = load_clip(folders["clip"]).probabilities(photos, texts)[:, 0]
    assert np.array_equal(SubjectByText("Cat", folders["clip"]).scores(photos), expected)
    assert "cat" in subject_by_text.OTHERS and len(set(texts)) == len(texts)


def test_a_text_is_never_cut(folders: dict[str, Path], photos: np.ndarray) -> None:
    with pytest.raises(ValueError, match="longer than the 20 tokens"):
        load_clip(folders["clip"]).probabilities(photos, ["a photo of a " + "red " * 20 + "cat"])


@pytest.mark.parametrize("kind", ["conditional_detr", "clip"])
def test_the_check_counts_images_from_the_least_score_on(
    kind: str, folders: dict[str, Path], photos: np.ndarray
) -> None:
    settings = asking("clip" if kind == "clip" else "detr", folders[kind])
    scores = np.sort(load_detector(settings, "cat", "cpu", None).scores(photos))
    between = float(scores[1:3].mean())
    assert scores[1] < between < scores[2]
    strict = settings.model_copy(update={"detector_score": between, "folder": "/elsewhere"})
    check = load_check(strict, "cat", "cpu", folders[kind])
    assert check is not None and check.wants_edits
    assert check.score(photos, photos) == 3 / 5
    assert check.score(photos, photos[:0]) is None
    exact = SubjectInScene(load_detector(settings, "cat", "cpu", None), float(scores[2]))
    assert exact.score(photos, photos) == 3 / 5


def test_digests_differ_by_detector_and_edit_subject(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest(kind: str, folder: Path) -> str:
        detector = {"clip": "clip", "imagenet": "imagenet"}.get(kind, "detr")
        check = load_check(asking(detector, folder), "cat")
        assert check is not None
        return check.digest()

    digests = {kind: digest(kind, folder) for kind, folder in folders.items()}
    digests["imagenet"] = digest("imagenet", tmp_path)
    assert len(set(digests.values())) == len(digests) == 6
    copy = shutil.copytree(folders["yolos"], tmp_path / "copy")
    assert digest("yolos", copy) == digests["yolos"]
    for file in (copy / "config.json", copy / "preprocessor_config.json"):
        before = digest("yolos", copy)
        file.write_text(file.read_text() + "\n")
        assert digest("yolos", copy) != before
    monkeypatch.setattr(subject_by_text, "SCENES", ("a photo",))
    assert digest("clip", folders["clip"]) != digests["clip"]


def test_loading_prints_nothing(folders: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    """No bar of transformers stands between the lines of an audit or of doctor; who wants them has them."""
    load_check(asking("clip", folders["clip"]), "cat")
    LatentDiffusion(ModelSettings(device="cpu"))
    assert capfd.readouterr().err == ""
    assert logging.is_progress_bar_enabled()


def test_loading_draws_no_random_number(folders: dict[str, Path]) -> None:
    before = torch.random.get_rng_state()
    SubjectByBoxes("cat", folders["rt_detr"])
    load_clip(folders["clip"])
    assert torch.equal(before, torch.random.get_rng_state())


def _pickled_only(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def _cut_off(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def _change(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = safetensors.torch.load_file(folder / WEIGHTS)
    change(weights)
    safetensors.torch.save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def _without_head(folder: Path) -> None:
    _change(folder, lambda weights: [weights.pop(name) for name in list(weights) if "class" in name])


def _without_projection(folder: Path) -> None:
    _change(folder, lambda weights: weights.pop("visual_projection.weight"))


def _not_finite(folder: Path) -> None:
    _change(folder, lambda weights: [w.fill_(float("nan")) for w in weights.values() if w.ndim > 1])


def _of_another_width(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 64}))


@pytest.mark.parametrize(
    ("kind", "spoil", "says"),
    [
        ("yolos", shutil.rmtree, "there is no folder .*; give one"),
        ("yolos", lambda f: (f / "config.json").unlink(), "has no config.json; give one"),
        ("yolos", lambda f: (f / "config.json").write_text("{"), "config.json is damaged .*; fetch it again"),
        ("yolos", lambda f: (f / "config.json").write_text("{}"), "model_type"),
        ("yolos", _pickled_only, "pickled weights .*: save the network"),
        ("yolos", lambda f: (f / "preprocessor_config.json").unlink(), "no preprocessor_config.json; add"),
        ("yolos", _cut_off, "model.safetensors is cut off or damaged .*; fetch it again"),
        ("yolos", _without_head, "lacks 6 weights of a YolosForObjectDetection"),
        ("yolos", _not_finite, "not finite"),
        ("yolos", _of_another_width, "cannot be loaded"),
        ("clip", lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer; add tokenizer.json"),
        ("clip", lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json is damaged"),
        ("clip", _pickled_only, "pickled weights"),
        ("clip", _without_projection, "lacks 1 weights of a CLIPModel, visual_projection"),
        ("clip", _not_finite, "not finite"),
    ],
)
def test_an_unusable_folder_is_an_error_of_one_line_with_the_fix(
    kind: str, spoil: Callable[[Path], object], says: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(folders[kind], tmp_path / "folder")
    spoil(folder)
    with pytest.raises(SettingsError, match=says) as error:
        load_check(asking("clip" if kind == "clip" else "detr", folder), "cat")
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


def test_a_network_of_a_different_kind_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(SettingsError, match="'clip'"):
        load_check(asking("detr", folders["clip"]), "cat")
    with pytest.raises(SettingsError, match="'yolos'"):
        load_check(asking("clip", folders["yolos"]), "cat")


def test_a_label_that_the_detector_lacks_names_the_nearest(folders: dict[str, Path]) -> None:
    with pytest.raises(SettingsError, match=r"'motorbike'; did you mean 'motorcycle'.*edit_subject"):
        load_check(asking("detr", folders["yolos"]), "motorbike")
    with pytest.raises(SettingsError, match="'zzz'; known are cat, dog, motorcycle"):
        load_check(asking("detr", folders["yolos"]), "zzz")


@pytest.fixture
def edited(quick: AuditSettings, folders: dict[str, Path]) -> AuditSettings:
    """A short audit whose images for the edit prompt are judged by a tiny YOLOS; its scores of them lie on
    both sides of the least one."""
    check = {"check": "editability", "detector": "detr", "folder": str(folders["yolos"])}
    check["detector_score"] = "0.2257"
    return quick.model_validate({**quick.model_dump(), "max_tokens": 1, "in_distribution": check})


def test_a_sweep_draws_the_edit_prompt_and_has_it_judged(edited: AuditSettings) -> None:
    sweep = Sweep(edited)
    sweep.admit(Item("a" * 64, Image.fromarray(skimage.data.chelsea())))
    lane = sweep.images["a" * 64].lane
    finished = [done for _ in range(edited.inversion.steps + 2) for done in sweep.step()]
    edits = sweep.draw("a" * 64, lane.vectors.detach(), edit_prompt(edited.selected_domain.edit_subject))
    detect = pipeline("object-detection", model=edited.in_distribution.folder, device="cpu")
    least = edited.in_distribution.detector_score
    boxes = detect([Image.fromarray(edit) for edit in edits], threshold=least)
    shown = [any(box["label"] == "Cat" for box in of) for of in boxes]
    assert 0 < np.mean(shown) < 1  # else any answer might be right
    assert finished[0].record["sweep"][0]["editability"] == np.mean(shown)


def test_a_bucket_s_detector_is_brought_here(
    edited: AuditSettings, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORIGINALITY_CACHE", str(tmp_path / "cache"))
    prefix = shutil.copytree(folders["yolos"], tmp_path / "bucket")
    (prefix / "pytorch_model.bin").write_bytes(b"not wanted")
    far = edited.model_validate(
        {
            **edited.model_dump(),
            "in_distribution": {**edited.in_distribution.model_dump(), "folder": prefix.as_uri()},
        }
    )
    copies = copies_here(far)
    assert copies.detector is not None
    assert {f.name for f in copies.detector.iterdir()} == {
        "config.json",
        "digests.json",
        WEIGHTS,
        "preprocessor_config.json",
    }
    assert preflight(far, copies)["judge_digest"] == preflight(edited)["judge_digest"]
    assert copies_here(edited).detector is None
    assert copies_here(load_settings("laptop", None, {})).detector is None
