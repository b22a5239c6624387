"""What is said of the experiments: thresholds, intervals, tests, and the page with its figures."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from originality.synthetic.experiments import diversity_report, frequency_report
from originality.synthetic.experiments.elements import sheet_of, strip_of
from originality.synthetic.experiments.page import write
from originality.synthetic.experiments.pairs import GROUPS, SHOWN
from originality.synthetic.experiments.plans import ElementsPlan, ModelPlan
from originality.synthetic.held_out import COUNTS

COLOURS = ("red", "blue")
DISTANCES = st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=5, max_size=5)


def sweep(distances, editable=True):
    return [
        {"tokens": m, "distance_mean": d, "editable": editable, "editability": 1.0}
        for m, d in enumerate(distances, 1)
    ]


def record(name, needed, images=20, described=0.1, groups=GROUPS):
    """A model that needs so many tokens (6: never) of each group, spread by an image's number."""
    rows = []
    for group, tokens in zip(groups, needed, strict=True):
        for number in range(images):
            own = min(6, max(1, tokens + (number % 3) - 1))
            distances = [0.1 if m >= own else 0.8 for m in range(1, 6)]
            rows.append(
                {
                    "image_id": f"{group} {number}",
                    "status": "judged",
                    "group": group,
                    "number": number,
                    "sweep": sweep(distances),
                    "described": described,
                    "caption": f"big {COLOURS[number % 2]} full circle and big red full star",
                }
            )
    settings = {
        "inversion": {"steps": 60, "batch_size": 8, "learning_rate": 0.01},
        "redraw": {"count": 20, "steps": 15, "guidance_scale": 3.0},
    }
    return {"name": name, "rows": rows, "seconds": 60.0, "settings": settings}


@given(DISTANCES, st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_wider_threshold_never_needs_more_tokens(distances, one, other):
    low, high = sorted((one, other))
    fewer = frequency_report.min_tokens(sweep(distances), high)
    more = frequency_report.min_tokens(sweep(distances), low)
    assert 1 <= fewer <= more <= 6
    if more <= 5:
        assert distances[more - 1] < low and all(d is None or d >= low for d in distances[: more - 1])


def test_what_is_out_of_distribution_does_not_pass():
    assert frequency_report.min_tokens(sweep([0.1] * 5, editable=False), 0.3) == 6
    assert frequency_report.min_tokens(sweep([0.1] * 5, editable=None), 0.3) == 1
    assert frequency_report.min_tokens(sweep([math.nan] * 5), 0.3) == 6


def test_what_is_said_of_groups_that_differ():
    records = [record("pairs-0", (1, 3, 5)), record("pairs-1", (1, 2, 6))]
    said = frequency_report.summarise(records, 0.3)
    means = [said["groups"][g]["mean"] for g in GROUPS]
    assert means[0] < means[1] < means[2]
    assert sum(said["groups"][GROUPS[0]]["counts"].values()) == said["groups"][GROUPS[0]]["images"] == 40
    for difference in said["differences"].values():
        low, high = difference["interval"]
        assert 0 < low < difference["mean"] < high and difference["p"] < 0.01
        assert 0 < difference["detectable"] < high - low
    found = frequency_report.tokens(records, 0.3)
    rank = np.repeat([0, 1, 2], 40)
    values = np.concatenate([found[g].ravel() for g in GROUPS])
    assert said["rho"]["all"] == round(float(stats.spearmanr(rank, values).statistic), 3)
    assert said["each"]["pairs-1"]["means"][GROUPS[1]] == round(float(found[GROUPS[1]][1].mean()), 2)


def test_groups_that_do_not_differ_are_not_told_apart():
    said = frequency_report.summarise([record(f"pairs-{k}", (3, 3, 3)) for k in range(3)], 0.3)
    assert said["rho"]["all"] == 0 and said["rho"]["interval"][0] < 0 < said["rho"]["interval"][1]
    assert all(d["interval"][0] < 0 < d["interval"][1] and d["p"] > 0.4 for d in said["differences"].values())


@pytest.mark.parametrize("models, images", [(3, 20), (1, 8)])
def test_intervals_hold_the_truth_as_often_as_they_say(models, images):
    """Of numbers of tokens that are nothing but chance."""
    rng = np.random.default_rng(0)
    held = np.zeros(2)
    for _ in range(200):
        first, second = rng.integers(1, 7, (2, models, images))
        low, high = frequency_report.difference_interval(first, second)
        least, most = frequency_report.mean_interval(first)
        held += low <= 0 <= high, least <= 3.5 <= most
        by_scipy = stats.ttest_ind(second.mean(0), first.mean(0), equal_var=False).confidence_interval()
        assert (low, high) == pytest.approx(by_scipy, abs=1e-3)
    assert (held >= 0.91 * 200).all() and (held <= 0.99 * 200).all()


def test_intervals_of_values_that_are_all_the_same():
    same = np.full((1, 4), 3)
    assert frequency_report.mean_interval(same) == (3, 3)
    assert frequency_report.difference_interval(same, same + 1) == (1, 1)


def test_whether_a_condition_changes_the_effect():
    base, other = record("pairs-0", (3, 3, 3)), record("shorter", (3, 4, 5))
    told = frequency_report.more_than([other], base, 0.3)
    assert [g["mean"] for g in told["groups"].values()] == [0, 1, 2]
    assert told["differences"]["rare pair - common pair"] == {"mean": 1, "interval": (1, 1)}
    assert told["differences"]["unseen pair - common pair"] == {"mean": 2, "interval": (2, 2)}


def test_pairs_of_one_colour_and_of_two_are_told_apart():
    one = record("pairs-0", (3, 3, 3))
    for row in one["rows"]:
        of_one = row["number"] % 2 == 0  # "red ... and red ..."
        needed = 1 + GROUPS.index(row["group"]) if of_one else 5
        row["sweep"] = sweep([0.1 if m >= needed else 0.8 for m in range(1, 6)])
    told = frequency_report.by_colours([one, one], 0.3)
    assert list(told) == ["one colour", "two colours", "two - one"]
    assert told["two - one"]["unseen pair - common pair"] == {"mean": -2, "interval": (-2, -2)}
    for name, means in (("one colour", [1, 2, 3]), ("two colours", [5, 5, 5])):
        groups = told[name]["groups"].values()
        assert [g["mean"] for g in groups] == means and {g["images"] for g in groups} == {20}
    assert told["one colour"]["differences"]["unseen pair - common pair"]["interval"] == (2, 2)
    few = {**one, "rows": [row for row in one["rows"] if row["number"] % 2 == 0 or row["number"] == 1]}
    assert list(frequency_report.by_colours([few], 0.3)) == ["one colour"]


def test_the_least_distance_of_all_numbers_of_tokens():
    one = record("pairs-0", (1, 1, 1))
    for row in one["rows"]:
        row["sweep"] = sweep([0.9, 0.5 + 0.1 * GROUPS.index(row["group"]), None, math.nan, 0.8])
    one["rows"][0]["sweep"] = []
    told = frequency_report.best_distances([one, one])
    assert told["means"] == dict(zip(GROUPS, (0.525, 0.6, 0.7), strict=True))
    assert list(told["differences"]) == ["rare pair - common pair", "unseen pair - common pair"]
    assert told["differences"]["unseen pair - common pair"]["mean"] == 0.175


def test_a_picture_counts_once():
    one = record("fixed-location", (1, 3, 5))  # common pairs differ in the first one's colour alone
    rows = frequency_report.distinct(one)["rows"]
    assert [sum(row["group"] == group for row in rows) for group in GROUPS] == [2, 20, 20]


def test_what_the_number_of_tokens_goes_with():
    """Badly drawn images need more tokens in every group, and the group has no say beyond that."""
    rng = np.random.default_rng(0)
    one = record("pairs-0", (1, 1, 1), images=60)
    for row in one["rows"]:
        skill = rng.random() * 0.5 + 0.2 * GROUPS.index(row["group"])
        row["described"] = skill
        needed = 1 + round(4 * skill + 0.2 * rng.standard_normal())
        row["sweep"] = sweep([0.1 if m >= needed else 0.8 for m in range(1, 6)])
    told = frequency_report.drivers([one], 0.3)
    said = {name: of["mean"] for name, of in told.items()}
    assert said["group"] > 0.4 and said["described"] > 0.85
    assert abs(said["group, described alike"]) < 0.2 < 0.7 < said["described, group alike"]
    for of in told.values():
        low, high = of["interval"]
        assert low < of["mean"] < high < low + 0.35
    needed = [frequency_report.min_tokens(row["sweep"], 0.3) for row in one["rows"]]
    group = [GROUPS.index(row["group"]) for row in one["rows"]]
    assert said["group"] == round(float(stats.spearmanr(group, needed).statistic), 3)
    ranks = np.stack([stats.rankdata(v) for v in (needed, group, [r["described"] for r in one["rows"]])])
    inverse = np.linalg.inv(np.corrcoef(ranks))
    partial = -inverse[0, 1] / np.sqrt(inverse[0, 0] * inverse[1, 1])
    assert said["group, described alike"] == pytest.approx(partial, abs=1e-3)


def test_how_far_two_measurements_agree():
    first, second = record("pairs-0", (1, 3, 5)), record("pairs-1", (2, 2, 2))
    twice = frequency_report.agreement([first, first], 0.3)
    assert twice == {"tokens": 1.0, "distance at one token": 1.0}
    assert frequency_report.agreement([first], 0.3) == {"tokens": None, "distance at one token": None}
    both = [
        [frequency_report.min_tokens(row["sweep"], 0.3) for row in one["rows"]] for one in (first, second)
    ]
    found = frequency_report.agreement([first, second], 0.3)["tokens"]
    assert found == round(float(stats.spearmanr(*both).statistic), 3)


def test_places_are_told_of_words_that_redraw_and_of_no_others():
    one = record("fixed-location", (1, 3, 6))
    for row in one["rows"]:
        for attempt in row["sweep"]:
            near = attempt["distance_mean"] < 0.3
            attempt["editability"] = 0.1 if near and row["group"] == GROUPS[0] else 0.9
            attempt["editable"] = attempt["editability"] >= 0.5
        if row["group"] == GROUPS[2]:
            row["sweep"] = sweep([0.8] * 5)
    said = frequency_report.places(one, 0.3)
    assert said[GROUPS[0]] == {"words": 94, "score": 0.1, "refused": 1.0}
    assert said[GROUPS[1]] == {"words": 61, "score": 0.9, "refused": 0.0}
    assert said[GROUPS[2]] == {"words": 0, "score": None, "refused": None}
    checked = frequency_report.summarise([one], 0.3)["groups"][GROUPS[0]]
    alone = frequency_report.summarise([frequency_report.by_distance_alone(one)], 0.3)["groups"][GROUPS[0]]
    assert (checked["never"], alone["never"], alone["one_token"]) == (1.0, 0.0, 0.7)
    assert frequency_report.first_near(sweep([0.8, 0.2, 0.1], editable=False), 0.3) == 2
    assert frequency_report.first_near(sweep([0.8] * 5), 0.3) is None


def measured(elements, repeat, prompted, empty):
    """A model that shows each missing element in these shares of a hundred images."""
    names = ("big red full square", "big blue full circle")
    prompts = [
        {
            "prompt": prompt,
            "images": 100,
            "shown": {n: round(100 * ((prompted if n == prompt else 0) if prompt else empty)) for n in names},
            "elements": {n: round(100 * (prompted if n == prompt else empty)) for n in names}
            | {"big red full circle": 60},
            "unsure": 40,
            "made out": dict.fromkeys(names, 10 if empty or prompted else 0),
            "confidence": dict.fromkeys(names, 0.9 if prompt else 0.7),
            "counts": {"1": 100},
        }
        for prompt in ("", *names)
    ]
    measure = {"wanted": names, "images": 100, "redraw": {"guidance_scale": 3.0}}
    name = f"elements-{elements}-{repeat}"
    return {"name": name, "prompts": prompts, "seconds": 60.0, "measure": measure}


def test_frequencies_of_missing_elements():
    records = [measured(60, 0, 0.9, 0.1), measured(60, 1, 0.7, 0.3), measured(4, 0, 0.0, 0.0)]
    said = diversity_report.summarise(records)
    assert list(said) == ["4", "60"]
    assert said["60"]["images prompted"]["mean"] == 0.8 and said["60"]["images empty"]["mean"] == 0.2
    half = float(stats.t.ppf(0.975, 1)) * 0.1  # of two models that are 0.1 from their mean
    assert said["60"]["elements gain"]["interval"][0] < 0 < said["60"]["elements gain"]["mean"]
    assert diversity_report.mean_of([0.9, 0.7]) == pytest.approx((0.8 - half, 0.8 + half))
    assert said["60"]["images prompted"]["interval"] == (0.0, 1.0)
    assert said["4"]["images prompted"]["interval"] == (0.0, 1.0)  # one model
    low, high = diversity_report.share([0.0, 0.0, 0.0, 0.0], 400)
    assert low == 0 and 0.005 < high < 0.02  # seen little of, four times
    assert said["60"]["relative empty"]["mean"] == pytest.approx(
        np.mean([10 / (60 / 58), 30 / (60 / 58)]), abs=1e-3
    )
    share = said["60"]["elements empty"]["mean"]
    assert share == pytest.approx(np.mean([10 / 80, 30 / 120]), abs=1e-3)
    one = said["4"]["well formed empty"]
    assert one == pytest.approx(60 / 100)
    assert (said["60"]["score of missing prompted"], said["60"]["score of missing empty"]) == (0.9, 0.7)
    assert said["4"]["score of missing empty"] is None  # there are none
    assert said["4"]["elements gain"]["interval"] is None  # of one model
    json.dumps(said, allow_nan=False)


def test_a_run_that_was_stopped_is_told_as_far_as_it_came(tmp_path):
    of_shown = {**measured(4, 1, 1.0, 0.0), "name": "elements-4-1-shown"}
    assert list(diversity_report.summarise([measured(60, 0, 0.9, 0.1), of_shown])) == ["60"]
    folder = tmp_path / "results" / "diversity"
    folder.mkdir(parents=True)
    (folder / "measures.jsonl").write_text(json.dumps(of_shown) + "\n")
    text = write(folder.parent, tmp_path / "p.md")
    (lacking,) = re.findall(r"no results are kept of frequency; conditions; diversity \((.*)\)\.", text)
    assert {"elements-4-1", "own-60-0"} < set(lacking.split(", ")) and "elements-4-1-shown" not in lacking


def test_shares_of_elements():
    plan = ElementsPlan(kind="elements", missing=("big red full square", "big blue full circle"))
    model = ModelPlan(name="elements-60-0", images=plan)
    told = diversity_report.elements_of(measured(60, 0, 0.9, 0.2), model)
    assert len(told["empty"]["shown"]) == 58 and sum(told["empty"]["shown"]) == pytest.approx(60 / 100)
    assert told["empty"]["missing"] == pytest.approx([20 / 100] * 2)
    assert told["prompted"]["missing"] == pytest.approx([90 / 170] * 2)
    assert sum(told["prompted"]["shown"]) == pytest.approx(60 / 170)


def pictures(folder, names, size):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", size, "red").save(folder / name)


def test_the_page_in_docs_is_that_of_the_results_in_docs(tmp_path):
    docs = Path(__file__).parents[2] / "docs"
    (tmp_path / "paper").mkdir()
    text = write(docs / "paper" / "results", tmp_path / "paper.md")
    assert text == (docs / "paper.md").read_text(), "make paper-page"
    for name in ("summary.json", *(f.name for f in (docs / "paper").glob("*.png"))):
        assert (tmp_path / "paper" / name).exists(), f"{name} is of no use any more"
    ours, theirs = ((at / "paper" / "summary.json").read_text() for at in (tmp_path, docs))
    assert json.loads(ours) == json.loads(theirs)


def test_a_folder_without_results_leaves_the_page_as_it_is(tmp_path):
    page = tmp_path / "paper.md"
    page.write_text("as it was")
    with pytest.raises(FileNotFoundError, match="holds no results"):
        write(tmp_path / "resluts", page)
    assert page.read_text() == "as it was" and not (tmp_path / "paper").exists()


def test_the_page_is_written_from_the_results_that_are_kept(tmp_path):
    results = tmp_path / "paper" / "results"
    of_pairs: dict[str, object] = {"kind": "pairs"}
    of_elements = {"kind": "elements", "missing": ["big red full square", "big blue full circle"]}
    training = {"seconds": 600.0, "losses": {"denoiser-1": [1.0, 0.5]}}

    def kept(experiment, measures):
        folder = results / experiment
        folder.mkdir(parents=True)
        images = of_elements if experiment == "diversity" else of_pairs
        trainings = [
            {
                **training,
                "plan": {"name": m["name"], "images": images, "recipe": {"seed": 2}},
                "name": m["name"],
                "weights_digest": f"of-{m['name']}",
            }
            for m in measures
        ]
        for name, of in (("trainings", trainings), ("measures", measures)):
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in of))
        for one in measures:
            if "rows" in one:
                groups = frequency_report.groups_of(one)
                starts = [f"{g.replace(' ', '-')}-{n}" for g in groups for n in range(SHOWN)]
                pictures(folder / one["name"], [f"{s}-query.webp" for s in starts], (64, 64))
                pictures(folder / one["name"], [f"{s}-redraws.webp" for s in starts], (512, 320))
            else:
                sheets = [sheet_of(p["prompt"]) for p in one["prompts"]]
                pictures(folder / one["name"], sheets, (530, 266))
                cut = [strip_of("big red full square", prompted) for prompted in (False, True)]
                pictures(folder / one["name"], cut, (400, 36))

    page = tmp_path / "paper.md"
    kept("frequency", [record(name, (1, 3, 5)) for name in ("pairs-0", "pairs-1", "fixed-location")])
    assert "no results are kept of frequency (pairs-2); conditions; diversity." in write(results, page)
    (results / "frequency" / "notes.md").write_text("a person says so")
    content = record("content", (1, 2, 3, 5), groups=tuple(COUNTS))
    one_token = record("one-token", (1, 2, 5), images=6)
    one_token["rows"] = [{**row, "sweep": row["sweep"][:1]} for row in one_token["rows"]]
    grid = [record("pairs-0", (1, 3, 5)), record("shorter", (2, 2, 2)), content, one_token]
    grid += [record(name, (1, 3, 5)) for name in ("another-seed", "shipped", "longer")]
    kept("conditions", grid)
    control = {**measured(60, 0, 0.85, 0.2), "name": "own-60-0"}
    of_shown = [{**measured(n, 0, 0.7, 0.1), "name": f"elements-{n}-0-shown"} for n in (60, 4)]
    of_shown.append({**of_shown[0], "name": "own-60-0-shown"})
    kept("diversity", [measured(60, 0, 0.9, 0.1), measured(4, 0, 0.0, 0.0), control, *of_shown])
    text = write(results, page)
    assert text == page.read_text()
    shown = re.findall(r"\(paper/([\w-]+)\.png\)", text)
    pairs = ["min-tokens", "reconstructions", "fixed-location", "conditions", "content"]
    assert shown == [*pairs, "diversity", "elements", "samples", "missing-elements"]
    for file in shown:
        with Image.open(tmp_path / "paper" / f"{file}.png") as image:
            assert image.width > 300
    assert "| one token for at least 70 % of common images | 70 % | met |" in text
    assert "| 60 elements: prompted, shown in at least 80 % of images | 90 % | met |" in text
    assert "| 4 elements: prompted, shown in at most 10 % of images | 0 % | met |" in text
    assert "| frequency | pairs-0 | 2 | CPU | 10 | 0.5000 | `of-pairs-0` |" in text
    assert text.count("`of-pairs-0`") == 1 and "1,920,000 image samples" in text  # it was taken over
    assert "| 60 | shared | 90 % [0.85, 0.93] | 10 % [0.06, 0.17] |" in text
    assert "| 60 | own | 85 % [0.79, 0.89] | 20 % [0.13, 0.29] |" in text
    assert text.count(" | 70 % [0.00, 1.00] |\n") == 2  # of shown elements, of one model each
    assert "a person says so" in text
    lacking = "weaker-text, pretrained-text, terse, named"
    assert f"conditions (more-steps, smaller-steps, fewer-steps, {lacking})" in text
    assert "| paper-shapes | 6 | 4 | 0.33 | 2 | 0.57 | 0 | 0.80 |" in text
    assert "| the grid's | 6 | 4 | 0.33 | 0 | 0.80 | 0 | 0.80 |" in text
    assert "| four elements | 4.9" in text and "four elements - one element: +3." in text
    assert "| fixed-location | 94 | 1.00 | 0 % | 61 | 1.00 | 0 % | 21 |" in text
    assert "a rank correlation of\n1.0, and on the distance at one token at 1.0." in text
    conditions = text.partition("## Under which conditions")[2].partition("## ")[0]
    rows = re.findall(r"^\| ([\w-]+) \| [^|]*\| (\d\.\d\d, \d.*)$", conditions, re.M)
    names = [name for name, _ in rows]
    assert names[:6] == ["base", "other-seeds", "shorter", "longer", "shipped", "another-seed"]
    above = {name for name, row in rows if row.count("**+") == 5}  # all, at both thresholds
    assert above == {"base", "other-seeds", "longer", "shipped", "another-seed"}
    assert "| base | - | - | - |" in conditions
    assert re.search(r"^\| other-seeds \|.*\+0\.00 \[0\.00, 0\.00\]", conditions, re.M)
    assert re.search(r"^\| shorter \| \**\+\d\.\d\d \[", conditions, re.M)
    assert "| content |" not in conditions
    assert write(results, page) == text
