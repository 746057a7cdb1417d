"""The command: what each subcommand prints; bad input is refused in a line, with code 2."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
from inline_runner import SPACE, TRADE_OFF, InlineRunner, by_steps, inline_run
from user_images import class_folders
from user_tables import folds_space, plain_rows, plain_series

import metatune
from metatune import cli, session
from metatune.presets import PRESETS
from metatune.prior import read_prior
from metatune.records.folder import RunFolder
from metatune.records.lease import acquire
from metatune.space import load_space

ROOT = Path(__file__).parents[1]
SPACES = sorted((ROOT / "search_spaces").glob("*.yaml"))
TINY = SPACE.replace("seeds: 2", "seeds: 1").replace("full: 1800", "full: 900")
COMMANDS = (
    "init", "baselines", "run", "resume", "leaderboard", "watch", "validate", "prior", "families",
    "strategies", "export", "adapt", "report",
)  # fmt: skip


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Command]:
    """Run ``metatune`` in this process, as its entry point does, where Ray cannot be imported."""
    for name in ("ray", "metatune.runner.tune_runner", "metatune.runner.cluster"):
        monkeypatch.setitem(sys.modules, name, None)
    on_term = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["metatune", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        streams = capsys.readouterr()
        return Done(code, streams.out, streams.err)

    yield run
    signal.signal(signal.SIGTERM, on_term)


@pytest.fixture
def image_space(tmp_path: Path) -> Path:
    """The shipped example for one's own images, beside a folder of such."""
    class_folders(tmp_path / "images", groups=10, classes=6, images=7)
    path = tmp_path / "image_folder.yaml"
    path.write_text((ROOT / "search_spaces" / "image_folder.yaml").read_text())
    return path


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs go on in this process."""
    monkeypatch.setattr(session, "on_ray", lambda *anything: nullcontext(InlineRunner()))


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(TINY)
    return path


def refused(done: Done, *words: str) -> None:
    """Exit code 2, a sentence on stderr with these words, nothing else anywhere."""
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("metatune: ")
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err


# --- help ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, command: Command) -> None:
    done = command(name, "--help")
    assert done.code == 0
    assert f"metatune {name}" in done.out
    assert done.err == ""


def test_the_help_lists_every_command_and_so_do_these_tests(command: Command) -> None:
    out = command("--help").out
    assert {found.name or found.callback.__name__ for found in cli.app.registered_commands} == set(  # type: ignore[union-attr]
        COMMANDS
    )
    for name in COMMANDS:
        assert f" {name} " in out


def test_the_version_is_the_packages(command: Command) -> None:
    assert command("--version") == Done(0, f"metatune {metatune.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["run"], ["run", "s.yaml", "--trials", "0"], ["run", "s.yaml", "--seed", "-1"],
     ["run", "s.yaml", "--workers", "x"], ["run", "s.yaml", "--unknown"], ["leaderboard"]],
)  # fmt: skip
def test_wrong_usage_is_refused_with_code_2(arguments: list[str], command: Command) -> None:
    done = command(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("Usage: ")
    assert "Traceback" not in done.err


# --- space files that are refused ----------------------------------------------------------------

WRONG = {
    "an unknown key": ("budget: {trials: 9}", "budget: {trials: 9, hours: 2}", "hours"),
    "a wrong type": ("seed: 0", "seed: first", "seed"),
    "an empty choice": ("{choice: [first_order, second_order]}", "{choice: []}", "choice"),
    "lower above upper": ("[1.0e-3, 1.0e-2]", "[1.0e-2, 1.0e-3]", "outer.lr"),
    "a log scale from zero": ("[1.0e-3, 1.0e-2]", "[0, 1.0e-2]", "outer.lr"),
    "an unknown preset": ("presets: [maml]", "presets: [mamml]", "mamml"),
    "a preset for other data": ("presets: [maml]", "presets: [protonet]", "protonet"),
    "an unknown default": ("default: fomaml", "default: best", "best"),
    "an unknown family": ("name: sinusoid", "name: cosinusoid", "cosinusoid"),
    "no trials": ("trials: 9", "trials: 0", "trials"),
    "a tab": ("seed: 0", "\tseed: 0", "tab"),
    "no score": ("seed: 0", "objectives: [adapt_seconds]", "score"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["validate", "run"])
@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_space_file_is_refused_with_its_line_before_anything_starts(
    kind: str, name: str, command: Command, space_file: Path, tmp_path: Path
) -> None:
    old, new, word = WRONG[kind]
    assert TINY.count(old) >= 1
    space_file.write_text(TINY.replace(old, new))
    out = ["--out", tmp_path / "run"] if name == "run" else []
    done = command(name, space_file, *out)
    refused(done, word)
    lines = done.err.removeprefix("metatune: ").splitlines()
    at = TINY[: TINY.index(old)].count("\n") + 1
    for line in lines:
        assert re.match(rf"{re.escape(str(space_file))}:\d+: .*found .*; allowed: ", line)
    assert abs(int(lines[0].removeprefix(f"{space_file}:").partition(":")[0]) - at) <= 1
    assert not (tmp_path / "run").exists()


def test_a_senseless_combination_is_refused_with_the_choice_that_makes_it(
    command: Command, space_file: Path
) -> None:
    text = TINY.replace("head: {kind: ridge, penalty: {", "head: {kind: prototypes, scale: {")
    space_file.write_text(text)
    done = command("validate", space_file)
    line = text[: text.index("choose:")].count("\n") + 1
    refused(done, f'{space_file}:{line}: strategy.choose: found choose "ridge" (head prototypes')
    assert done.err.count("\n") == 1


def test_each_problem_has_a_line_of_its_own(command: Command, space_file: Path) -> None:
    space_file.write_text(TINY.replace("seed: 0", "seed: -1").replace("trials: 9", "trials: x"))
    done = command("validate", space_file)
    refused(done)
    assert [line.split(":")[1] for line in done.err.removeprefix("metatune: ").splitlines()] == [
        str(TINY[: TINY.index(text)].count("\n") + 1) for text in ("seed: 0", "budget:")
    ]


@pytest.mark.parametrize("name", ["validate", "run"])
def test_a_missing_file_and_a_folder_are_refused(
    name: str, command: Command, tmp_path: Path
) -> None:
    refused(command(name, tmp_path / "no.yaml"), f"{tmp_path}/no.yaml", "no such file")
    refused(command(name, tmp_path), str(tmp_path), "a directory")


@pytest.mark.parametrize("name", ["validate", "run"])
def test_a_way_above_the_characters_at_hand_is_refused_with_what_is_there(
    name: str, command: Command, space_file: Path
) -> None:
    text = (ROOT / "search_spaces" / "quickstart.yaml").read_text()
    space_file.write_text(text.replace("way: 20", "way: 300"))
    refused(command(name, space_file), "glyphs", "300", "characters")


@pytest.mark.parametrize("name", ["validate", "run"])
def test_a_missing_data_folder_is_refused_with_the_ways_to_name_one(
    name: str,
    command: Command,
    space_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("METATUNE_DATA", raising=False)
    text = (ROOT / "search_spaces" / "omniglot.yaml").read_text()
    space_file.write_text(text)
    refused(command(name, space_file), "omniglot", "data_dir", "METATUNE_DATA")
    space_file.write_text(text.replace("way: 20,", f"way: 20, data_dir: {tmp_path}/none,"))
    refused(command(name, space_file), f"{tmp_path}/none")


def test_an_out_folder_that_holds_something_is_refused(
    command: Command, space_file: Path, tmp_path: Path
) -> None:
    done = command("run", space_file, "--out", tmp_path)
    refused(done, f"{tmp_path} exists and is not empty")
    refused(command("run", space_file, "--out", space_file), "exists and is not empty")


@pytest.mark.usefixtures("inline")
def test_a_storage_that_cannot_be_opened_is_refused(
    command: Command, space_file: Path, tmp_path: Path
) -> None:
    done = command("run", space_file, "--out", tmp_path / "run", "--storage", "nonsense")
    refused(done, "the storage of the study cannot be opened")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1", "nowhere.invalid:6379", "a:b:c"])
def test_an_address_where_nothing_answers_is_refused_before_a_folder_is_made(
    address: str, command: Command, space_file: Path, tmp_path: Path
) -> None:
    done = command("run", space_file, "--out", tmp_path / "run", "--address", address)
    refused(done, f"no Ray cluster answers at {address}")
    assert not (tmp_path / "run").exists()


# --- folders that are refused --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resume", "leaderboard"])
def test_what_is_no_run_is_refused(name: str, command: Command, tmp_path: Path) -> None:
    refused(command(name, tmp_path), f"{tmp_path} is not a run folder")
    refused(command(name, tmp_path / "nowhere"), "is not a run folder")
    (tmp_path / "run.json").write_text("{")
    refused(command(name, tmp_path), "run.json cannot be read")


def test_a_run_whose_space_was_edited_is_refused(
    command: Command, space_file: Path, tmp_path: Path
) -> None:
    folder, _ = session.create(space_file, out=tmp_path / "run")
    folder.space.write_text(TINY.replace("trials: 9", "trials: 10"))
    refused(command("resume", folder.path), "space.yaml was changed since the run started")


def test_a_run_that_a_live_process_drives_is_refused(
    command: Command, space_file: Path, tmp_path: Path
) -> None:
    folder, _ = session.create(space_file, out=tmp_path / "run")
    with acquire(folder):
        refused(command("resume", folder.path), f"is being driven by process {os.getpid()}")


# --- runs ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("inline")
def test_a_run_prints_its_trials_its_verdict_and_where_everything_lies(
    command: Command, space_file: Path, tmp_path: Path
) -> None:
    done = command("run", space_file, "--out", tmp_path / "run", "--trials", 6, "--seed", 3)
    assert (done.code, done.err) == (0, "")
    run = metatune.read_run(tmp_path / "run")
    assert (run.info["seed"], len(run.trials)) == (3, 6)
    assert "[6/6] proposed-1-5 " in done.out
    assert f"\n{run.verdicts.iloc[0]['sentence']}\n" in done.out
    assert f"Results: {tmp_path / 'run'}\n" in done.out
    assert f"  metatune leaderboard {tmp_path / 'run'}\n" in done.out

    again = command("resume", tmp_path / "run")  # of a finished run: shows it, changes nothing
    assert (again.code, again.err) == (0, "")
    assert again.out == done.out[done.out.index(again.out[:60]) :]


@pytest.mark.usefixtures("inline")
def test_all_folds_are_run_shown_fold_by_fold_and_pooled(command: Command, tmp_path: Path) -> None:
    done = command(
        "run", folds_space(tmp_path), "--folds", "--trials", 7, "--out", tmp_path / "run"
    )
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("2 folds, each a run with the whole budget: 2 x 7 trials")
    sentences = [run.verdicts.iloc[0]["sentence"] for run in metatune.read_runs(tmp_path / "run")]
    for fold, sentence in enumerate(sentences):
        assert f"\nfold-{fold}: {sentence}\n" in done.out
    assert "2 of 2 folds have their verdict.\n" in done.out
    assert "Over 2 folds: accuracy on test tasks" in done.out
    assert "Claim: this search, on new groups (G = 6, 12 tasks of 2 folds" in done.out
    assert f"Results: {tmp_path / 'run'}\n" in done.out
    assert "rotated(metatune.read_runs(" in done.out

    again = command("resume", tmp_path / "run")
    assert (again.code, again.err) == (0, "")
    assert done.out.endswith(again.out[again.out.index("fold-0: ") :])
    shutil.rmtree(tmp_path / "run" / "fold-1" / "records")
    (tmp_path / "run" / "fold-1" / "records").mkdir()
    out = command("leaderboard", tmp_path / "run").out
    assert out == f"fold-0: {sentences[0]}\n1 of 2 folds have their verdict.\n"


def test_folds_of_a_family_without_any_are_refused(
    command: Command, space_file: Path, tmp_path: Path
) -> None:
    done = command("run", space_file, "--folds", "--out", tmp_path / "run")
    refused(done, f"{space_file}:1: family.name: found sinusoid; allowed: with --folds: forecast")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("inline")
def test_an_interrupted_run_says_how_to_go_on_and_exits_as_interrupted(
    command: Command, space_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*anything: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(InlineRunner, "drain", interrupt)
        done = command("run", space_file, "--out", tmp_path / "run")
    assert done.code == 130
    assert done.err == (
        f"Interrupted. What was finished is kept; go on with: metatune resume {tmp_path / 'run'}\n"
    )
    assert command("resume", tmp_path / "run").code == 0


@pytest.mark.usefixtures("inline")
def test_a_run_that_cannot_go_on_ends_with_its_sentence(
    command: Command, space_file: Path, tmp_path: Path
) -> None:
    space_file.write_text(TINY.replace("default: fomaml", "default: wild"))
    done = command("run", space_file, "--out", tmp_path / "run")
    assert done.code == 2
    assert done.err.startswith("metatune: the default strategy wild diverged")
    assert done.err.count("\n") == 1
    assert "Results" not in done.out


def test_brackets_in_names_are_printed_as_they_are(command: Command, tmp_path: Path) -> None:
    odd = tmp_path / ":b: [bold]odd [" / "x].yaml"  # to rich, "[/x]" would end a style
    odd.parent.mkdir()
    odd.write_text(TINY)
    done = command("validate", odd)
    assert (done.code, done.err) == (0, "")
    assert f"{odd} is valid. Start it with: metatune run {odd}\n" in done.out
    refused(command("validate", f"{odd}[/none]"), f"{odd}[/none]")


# --- looking -------------------------------------------------------------------------------------


def test_the_leaderboard_shows_trials_verdict_and_sentence(
    command: Command, finished: Path
) -> None:
    run = metatune.read_run(finished)
    done = command("leaderboard", finished)
    assert (done.code, done.err) == (0, "")
    assert "\x1b" not in done.out
    for name in run.trials["name"]:
        assert f" {name} " in done.out
    assert "Verdict: mse on unseen test tasks (new tasks, 2 trainings each)" in done.out
    assert run.verdicts.iloc[0]["sentence"] in done.out.splitlines()


def test_the_leaderboard_of_two_objectives_stars_the_front(
    command: Command, tmp_path: Path
) -> None:
    path = inline_run(TRADE_OFF, tmp_path / "run", runner=InlineRunner(clock=by_steps))
    run, out = metatune.read_run(path), command("leaderboard", path).out
    trials, _, verdict = out.partition("Verdict: ")
    starred = [line for line in trials.splitlines() if " * " in line]
    names = run.trials.loc[run.rounds.iloc[0]["front"], "name"]
    assert len(starred) == len(names)
    for name, line in zip(names, starred, strict=True):  # both from the best to the fastest
        assert f" {name} " in line
    assert "ms a task" in trials
    assert " * " in verdict


def test_the_leaderboard_shows_as_many_trials_as_asked(command: Command, finished: Path) -> None:
    out = command("leaderboard", finished, "--rows", 2).out
    assert "(first 2)" in out
    assert " singular " not in out.partition("Verdict")[0]


def test_the_leaderboard_of_a_run_without_verdict_says_so(
    command: Command, finished: Path, space_file: Path, tmp_path: Path
) -> None:
    folder, _ = session.create(space_file, out=tmp_path / "new")
    assert command("leaderboard", folder.path).out.endswith("No verdict yet.\n")

    copy = shutil.copytree(finished, tmp_path / "run")  # cut off in the middle, and still driven
    (log,) = (copy / "records").glob("log-*.jsonl")
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:12]))
    with acquire(RunFolder.open(copy)):
        done = command("leaderboard", copy)
    assert (done.code, done.err) == (0, "")
    assert " fomaml (default) " in done.out
    assert " running " in done.out
    assert done.out.endswith("No verdict yet.\n")


def test_the_families_and_their_data_are_listed(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("METATUNE_DATA", raising=False)
    done = command("families")
    assert (done.code, done.err) == (0, "")
    for word in ("sinusoid", "regression", "mse", "glyphs", "classification", "accuracy"):
        assert word in done.out
    assert re.search(r"omniglot .* data not found: ", done.out)
    assert re.search(r"table .* Your own CSV or Parquet files: `metatune init", done.out)
    assert re.search(r"image_folder .* accuracy .* Your own images in class folders: see", done.out)


def test_the_tasks_of_a_family_are_shown_and_drawn(command: Command, tmp_path: Path) -> None:
    done = command("families", "sinusoid", "--png", tmp_path / "s.png")
    assert (done.code, done.err) == (0, "")
    for text in (
        "regression",
        "mse, lower is better",
        "1-way 5-shot, 5 query",
        "none of their own",
    ):
        assert text in done.out
    assert f"Written: {tmp_path / 's.png'} (support and query points)" in done.out
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


def test_a_family_that_has_to_be_told_more_is_shown_by_a_space_file(
    command: Command, image_space: Path, tmp_path: Path
) -> None:
    done = command("families", image_space, "--png", tmp_path / "i.png")
    assert (done.code, done.err) == (0, "")
    for text in (
        "accuracy, higher is better",
        "nearest_neighbour, frozen_features",
        "5-way 1-shot, 5 query",
        " 24, 6 to 6 a group; 4 of 4 groups have such tasks",
        " 12, 6 to 6 a group; 2 of 2 groups have such tasks",
        "Note: 420 images of 60 classes, grey, 28x28 pixels.",
        f"Written: {tmp_path / 'i.png'} (a row a class, ",
    ):
        assert text in done.out
    refused(command("families", "image_folder"), "data: found nothing", "named in a space file")
    refused(command("families", "imagnet"), "found 'imagnet'; allowed: sinusoid", "a space file")


def test_a_picture_needs_a_family(command: Command) -> None:
    done = command("families", "--png", "x.png")
    assert done.code == 2
    assert "name the family to draw from" in done.err


def test_every_preset_is_listed_with_what_it_is(command: Command) -> None:
    out = command("strategies").out
    for name, function in PRESETS.items():
        assert f" {name} " in out
        assert (function.__doc__ or "").partition("\n")[0][:40] in out


def test_validate_shows_what_would_be_run_and_what_lies_outside(
    command: Command, space_file: Path
) -> None:
    done = command("validate", space_file)
    assert (done.code, done.err) == (0, "")
    for text in (
        "9 in 1 round(s), no limit of time",
        "100, 300, 900 forward-equivalents",
        "fomaml, wild, singular, maml, scratch",
        "choose.gradient.inner.steps",
        f"{space_file} is valid. Start it with: metatune run {space_file}",
    ):
        assert text in done.out
    notes = re.findall(r"Note: (\S+) lies outside the space", done.out)
    assert notes == ["singular", "scratch"]


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_shipped_space_is_valid(
    path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, image_space: Path
) -> None:
    if path.name == image_space.name:
        path = image_space
    if path.stem in ("omniglot", "chembl", "eia_load", "aus_retail"):
        folder = Path(os.environ.get("METATUNE_DATA") or ROOT.parent / "shared" / "data")
        if not folder.is_dir():
            pytest.skip(f"no real data: {folder} (METATUNE_DATA, else shared/data) is no folder")
        monkeypatch.setenv("METATUNE_DATA", str(folder))
    done = command("validate", path)
    assert (done.code, done.err) == (0, "")
    assert f"{path} is valid." in done.out


def test_there_are_shipped_spaces_to_check() -> None:
    assert {path.stem for path in SPACES} >= {
        "aus_retail", "chembl", "eia_load", "image_folder", "omniglot", "quickstart", "sinusoid"
    }  # fmt: skip


# --- priors --------------------------------------------------------------------------------------


def test_a_prior_is_written_and_shown_and_validate_says_what_it_brings(
    command: Command, finished: Path, tmp_path: Path
) -> None:
    file = tmp_path / "prior.parquet"
    done = command("prior", finished, finished, "-o", file)
    assert (done.code, done.err) == (0, "")
    assert f"Written: {file}\n" in done.out
    assert "Baseline: " in done.out
    assert "covers so far" in done.out
    assert set(read_prior(file).frame["run"]) == {finished.name}  # given twice, it counts once

    space = tmp_path / "space.yaml"
    space.write_text("prior: prior.parquet\n" + TINY.replace("trials: 9", "trials: 20"))
    plan, _ = session.plan_of(load_space(space))
    done = command("validate", space)
    assert (done.code, done.err) == (0, "")
    out = " ".join(done.out.split())
    assert plan.prior.portfolio
    assert all(entry.name in out for entry in plan.prior.portfolio)
    assert f"baseline of the prior │ {plan.prior.baseline} " in out
    assert f"of the prior's {plan.prior.strategies} strategies" in out
    assert "are left out: 1 outside the space." in out


def test_a_prior_of_what_is_no_run_is_refused_and_nothing_is_written(
    command: Command, finished: Path, tmp_path: Path
) -> None:
    file = tmp_path / "prior.parquet"
    refused(command("prior", finished, tmp_path, "-o", file), f"{tmp_path} is not a run folder")
    assert not file.exists()
    refused(command("prior", finished, "-o", tmp_path), f"{tmp_path} exists and is no prior")
    done = command("prior", "-o", file)
    assert (done.code, done.out) == (2, "")


def test_a_space_whose_prior_is_missing_is_refused_with_its_line(
    command: Command, tmp_path: Path
) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(TINY + "prior: nowhere.parquet\n")
    line = TINY.count("\n") + 1
    refused(command("validate", space), f"{space}:{line}: prior: found ", "which is missing")


# --- the user's own data --------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A table of 24 tasks."""
    plain_rows(rows=40).drop(columns="label").to_csv(tmp_path / "own.csv", index=False)
    return tmp_path / "own.csv"


def test_init_writes_a_space_says_what_it_assumed_and_validate_takes_it(
    command: Command, own: Path, tmp_path: Path
) -> None:
    space = tmp_path / "own.yaml"
    done = command("init", own, "--task", "task", "--target", "y", "-o", space)
    assert (done.code, done.err) == (0, "")
    assert "Predicts y, a number, as it looks (--predict says otherwise).\n" in done.out
    assert "16 support and 24 query rows a task, which 100 % of the 24 tasks can hold." in done.out
    assert f"Written: {space}\nNext: metatune run {space}\n" in done.out
    done = command("validate", space)
    assert (done.code, done.err) == (0, "")
    assert "Note: 24 tasks with 960 rows; a number from 4 inputs: number, kind = a" in done.out
    assert "16 support and 24 query rows" in done.out
    assert f"{space} is valid." in done.out
    refused(command("init", own, "--task", "task", "--target", "y", "-o", space), "exists already")


def test_validate_says_what_is_left_out_of_a_table(
    command: Command, own: Path, tmp_path: Path
) -> None:
    rows = own.read_text().splitlines()
    own.write_text("\n".join([*rows[:-1], rows[-1].rpartition(",")[0] + ","]))
    space = tmp_path / "own.yaml"
    command("init", own, "--task", "task", "--target", "y", "-o", space)
    out = command("validate", space).out
    assert "Note: 1 of 960 rows are left out: y, the target, is missing." in out


@pytest.mark.parametrize("name", ["init", "baselines"])
def test_data_and_columns_that_are_not_there_are_refused(
    name: str, command: Command, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ("--task", "task", "--target", "y")
    refused(command(name, "nowhere.csv", *flags), "nowhere.csv; allowed: files that end in .csv")
    refused(command(name, own, "--task", "shop", "--target", "y"), "no column 'shop' in", "allowed")
    refused(command(name, own, *flags, "--group", "y"), "found task task, target y, group y")
    assert not (tmp_path / "space.yaml").exists()


@pytest.mark.long
def test_baselines_answers_with_a_table_and_a_sentence(
    command: Command, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metatune.baselines.SHOTS", (4,))
    done = command("baselines", own, "--task", "task", "--target", "y", "--tasks", "6")
    assert (done.code, done.err) == (0, "")
    out = " ".join(done.out.split())
    assert "r2 on select tasks" in out
    for shown in ("each task alone", "boosted_trees", "pooled_ridge", "4 shots"):
        assert shown in out
    assert re.search(r"(Something|Nothing) (is )?shared", out)


@pytest.fixture
def sales(tmp_path: Path) -> Path:
    """A long table of 12 series."""
    plain_series(shops=12, days=80).to_csv(tmp_path / "sales.csv", index=False)
    return tmp_path / "sales.csv"


@pytest.mark.parametrize("target", ["--target", "--value"])
def test_init_of_series_writes_a_space_that_validate_takes(
    target: str, command: Command, sales: Path, tmp_path: Path
) -> None:
    space = tmp_path / "own.yaml"
    flags = ("--series", "shop", "--time", "day", target, "sold")
    done = command("init", sales, *flags, "-o", space)
    assert (done.code, done.err) == (0, "")
    assert "Forecasts sold of 12 series in steps of D, as their times look.\n" in done.out
    assert f"Written: {space}\nNext: metatune run {space}\n" in done.out
    assert f"{space} is valid." in command("validate", space).out


@pytest.mark.parametrize("name", ["init", "baselines"])
def test_flags_of_tables_and_of_series_do_not_mix(name: str, command: Command, sales: Path) -> None:
    allowed = "allowed: --task of the rows of a table, or --series and --time of time series"
    for flags, found in [
        ((), "found neither"),
        (("--series", "shop"), "found --series"),
        (("--task", "shop", "--time", "day"), "found --task and --time"),
        (("--series", "shop", "--time", "day", "--predict", "class"), "found --predict and"),
    ]:
        refused(command(name, sales, "--target", "sold", *flags), found, allowed)


@pytest.mark.long
def test_baselines_of_series_answer_with_a_sentence(
    command: Command, sales: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metatune.baselines.PARTS", (1,))
    flags = ("--series", "shop", "--time", "day", "--target", "sold", "--tasks", "6")
    done = command("baselines", sales, *flags)
    assert (done.code, done.err) == (0, "")
    assert "seasonal_naive" in done.out
    assert re.search(r"(Something|Nothing) (is )?shared", done.out)


# --- as processes --------------------------------------------------------------------------------


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_the_command_prints_refusals_on_stderr_and_exits_with_2(space_file: Path) -> None:
    space_file.write_text(TINY.replace("seed: 0", "seed: first"))
    done = process("-m", "metatune", "run", space_file)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"metatune: {space_file}:2: seed: found ")


def test_help_brings_in_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['metatune', 'run', '--help']\n"
        "from metatune.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('ray', 'torch', 'optuna', 'pandas', 'scipy') if m in sys.modules])"
    )
    done = process("-W", "error", "-c", code)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_one_liner_that_a_run_prints_works_and_needs_neither_ray_optuna_nor_torch(
    finished: Path,
) -> None:
    code = f'import metatune; print(metatune.read_run("{finished}").trials)'
    check = "; import sys; print([m for m in ('ray', 'torch', 'optuna') if m in sys.modules])"
    done = process("-W", "error", "-c", code + check)
    assert done.stderr == ""
    assert "fomaml" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_package_offers_what_it_lists_and_nothing_else() -> None:
    assert set(dir(metatune)) == set(metatune.__all__)
    for name in metatune.__all__:
        assert getattr(metatune, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        metatune.nonsense  # noqa: B018
