"""A job's identity is its recipe: what must change it, and what must not."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from baselines.declarations import Declaration, declared
from experiments.jobs.job import Job, bundles
from experiments.running.schedule import job_from, job_record
from experiments.settings import known, load_preset
from experiments.tables.accuracy import AccuracyPlan, plan_table
from experiments.tables.declared import accuracy_tables, load_table
from experiments.tables.target import Selection


def planned(**selection: object) -> AccuracyPlan:
    return plan_table(load_table("table6"), load_preset("tiny"), Selection(**selection))  # type: ignore[arg-type]


def keys(plan: AccuracyPlan, *stages: str) -> set[str]:
    return {job.key for job in plan.jobs if not stages or job.stage.name in stages}


def test_changing_eta_reruns_only_impact_from_its_preparation_on() -> None:
    before, after = planned(), planned(eta=0.5)
    new = [job for job in after.jobs if job.key not in keys(before)]
    assert {job.label.split()[0] for job in new} == {"impact"}
    assert {job.stage.name for job in new} == {"prepare", "compress", "perplexity", "sft", "evaluate", "judge"}


@pytest.mark.parametrize("version", [9, "a hash of its sources"])
def test_one_methods_new_version_makes_no_others_outputs_anew(
    version: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raised(name: str, settings: Mapping[str, object]) -> Declaration:
        there = declared(name, settings)
        return replace(there, version=version) if name == "afm" else there

    before = keys(planned())
    monkeypatch.setattr("experiments.jobs.stage.declared", raised)
    new = [job for job in planned().jobs if job.key not in before]
    assert {job.label.split()[0] for job in new} == {"afm"} and {"prepare", "compress"} < {j.stage.name for j in new}


def test_fewer_methods_or_rows_ask_for_a_subset_of_the_same_jobs() -> None:
    everything = keys(planned())
    assert keys(planned(methods=("impact", "afm"))) < everything
    assert keys(planned(rows=(2,))) < everything


def test_a_further_seed_repeats_training_but_not_compression() -> None:
    one, two = planned(), planned(seeds=2)
    assert keys(one) < keys(two)
    assert keys(one, "finetune", "profile", "prepare", "score", "compress") == keys(
        two, "finetune", "profile", "prepare", "score", "compress"
    )


def test_methods_share_statistics() -> None:
    """AFM, and IMPACT beside it, need one covariance; SVD needs nothing."""
    assert not keys(planned(methods=("svd",)), "profile")
    afm = keys(planned(methods=("afm",)), "profile")
    assert len(afm) == 1 and afm < keys(planned(methods=("impact",)), "profile")


def test_statistics_are_gathered_in_one_pass_and_nothing_else_is_bundled() -> None:
    made = list(bundles(planned().jobs))
    assert [[job.label for job in bundle] for bundle in made if len(bundle) > 1] == [
        ["weight_fisher", "input_magnitude", "activation_covariance", "squared_gradient"]
    ]


def test_places_stay_out_of_the_identity_and_contents_enter_it(tmp_path: Path) -> None:
    def data_job(folder: Path, answer: str) -> Job:
        for name in ("gsm8k", "math"):
            (folder / name).mkdir(parents=True)
            (folder / name / "train.jsonl").write_text(answer)
            (folder / name / "test.jsonl").write_text(answer)
        return plan_table(load_table("table6"), load_preset("small"), Selection(data_dir=folder)).data

    here, there = data_job(tmp_path / "a", "1"), data_job(tmp_path / "b", "1")
    assert here.id == there.id and here.paths != there.paths
    assert data_job(tmp_path / "c", "2").id != here.id


def changed_copy(brought: Path, folder: Path, name: str, content: int) -> Path:
    """The checkpoint in another folder, where what one of its files holds is said by a number."""
    shutil.copytree(brought, folder)
    file = folder / name
    if name == "model.safetensors":
        save_file({key: tensor + content for key, tensor in load_file(file).items()}, file)
    elif name == "config.json":
        file.write_text(json.dumps(json.loads(file.read_text()) | {"max_position_embeddings": content}))
    else:
        file.write_text(str(content))
    return folder


def test_an_external_checkpoint_is_told_apart_by_its_owner_or_its_content(tmp_path: Path, brought: Path) -> None:
    def model(place: Path | str) -> str:
        plan = planned(methods=("svd",), externals={"mine": str(place)})
        return plan.cells[-1].jobs["external"].id

    def directory(parent: str, weights: int) -> Path:
        return changed_copy(brought, tmp_path / parent / "model", "model.safetensors", weights)

    assert model("one/model") != model("another/model")
    here = model(directory("here", 1))
    assert here == model(directory("moved", 1)) != model(directory("changed", 2))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.model", "merges.txt"])
def test_a_local_model_is_told_apart_by_its_files(tmp_path: Path, brought: Path, name: str) -> None:
    def dense(parent: str, content: int) -> Job:
        folder = changed_copy(brought, tmp_path / parent / "Llama-2-7b-hf", name, content)
        plan = plan_table(load_table("table6"), load_preset("paper"), Selection(model_dir=folder.parent))
        return next(job for job in plan.jobs if job.stage.name == "base")

    one, same, other = dense("a", 1), dense("b", 1), dense("c", 2)
    assert one.id == same.id != other.id


def test_jobs_survive_the_schedule_file() -> None:
    restored: dict[str, Job] = {}
    for job in planned(seeds=2, eta=0.75).jobs:
        restored[job.key] = job_from(json.loads(json.dumps(job_record(job))), restored)
        assert restored[job.key].id == job.id


@pytest.mark.parametrize("preset", known("presets"))
@pytest.mark.parametrize("name", accuracy_tables())
def test_every_preset_plans_every_table(preset: str, name: str) -> None:
    table = load_table(name)
    plan = plan_table(table, load_preset(preset), Selection())
    assert {"dense:0", "dense_sft:0"} < {cell.name for cell in plan.cells}
    for cell in plan.cells:
        assert {f"accuracy {benchmark}" for benchmark in table.benchmarks} <= set(cell.jobs)


def test_tables_of_one_domain_share_their_data_and_those_of_two_share_nothing() -> None:
    plans = {name: plan_table(load_table(name), load_preset("tiny"), Selection()) for name in accuracy_tables()}
    shared = keys(plans["table6"]) & keys(plans["table7"])
    assert shared == {plans["table6"].data.key}
    assert not keys(plans["table6"]) & keys(plans["table8"])


def test_giving_isolation_up_judges_again_and_says_so() -> None:
    isolated, unsafe = (
        plan_table(load_table("table8"), load_preset("tiny"), Selection(isolated=choice)) for choice in (True, False)
    )
    changed = [job for job in unsafe.jobs if job.key not in keys(isolated)]
    assert {job.stage.name for job in changed} == {"judge"}
    assert {job.config.isolation for job in changed} == {"none"}  # type: ignore[attr-defined]
    assert keys(planned()) == keys(planned(isolated=False))
