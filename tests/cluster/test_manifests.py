"""The files of ``cluster/`` are what Ray, KubeRay and the shell accept; broken ones are not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
RAY_UP = sorted((CLUSTER / "ray-up").glob("*.yaml"))
KINDS = {"RayCluster": "raycluster.yaml", "RayJob": "rayjob.yaml"}
SCHEMAS = json.loads((Path(__file__).parent / "kuberay-1.7.0.json").read_text())
Manifest = dict[str, Any]


def loaded(path: Path) -> Manifest:
    manifest: Manifest = yaml.safe_load(path.read_text())
    return manifest


def pinned(package: str) -> str:
    found = re.search(rf"^{package}==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found
    return found[1]


def of_kuberay(kind: str) -> Manifest:
    return loaded(CLUSTER / "kuberay" / KINDS[kind])


def spec_of(manifest: Manifest) -> Manifest:
    """The Ray cluster of a manifest."""
    spec: Manifest = manifest["spec"]
    return spec.get("rayClusterSpec", spec)


def accept(manifest: Manifest) -> None:
    """Raise where KubeRay, or what it means by these fields, refuses a manifest."""
    jsonschema.validate(manifest, {**SCHEMAS, "$ref": f"#/{manifest['kind']}"})
    spec = spec_of(manifest)
    for group in spec["workerGroupSpecs"]:
        if not group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]:
            raise ValueError(f"{group['groupName']} starts with replicas out of its range")
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            if any(mount["name"] not in volumes for mount in container["volumeMounts"]):
                raise ValueError(f"{container['name']} mounts a volume that the pod lacks")


# --- ray up --------------------------------------------------------------------------------------


def prepared(path: Path) -> Manifest:
    """A file as ``ray up`` completes and checks it."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config: Manifest = prepare_config(loaded(path))
    validate_config(config)
    return config


@pytest.fixture
def edited(tmp_path: Path) -> Callable[[Path, Callable[[Manifest], object]], Path]:
    """A copy of a file with one thing changed."""

    def edit(path: Path, change: Callable[[Manifest], object]) -> Path:
        manifest = loaded(path)
        change(manifest)
        copy = tmp_path / path.name
        copy.write_text(yaml.safe_dump(manifest))
        return copy

    return edit


@pytest.mark.parametrize("path", RAY_UP, ids=lambda path: path.stem)
def test_ray_up_accepts_the_file(path: Path) -> None:
    config = prepared(path)
    assert config["cluster_name"] == "metatune"
    types = config["available_node_types"]
    assert config["head_node_type"] in types
    assert sum(kind["max_workers"] for kind in types.values()) > 0


@pytest.mark.parametrize("path", RAY_UP, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.pop("provider"),
        lambda config: config.update(idle_minutes=10),
        lambda config: config.update(upscaling_speed="fast"),
        lambda config: config.update(setup_commands="pip install"),
        lambda config: config.update(max_workers=-1),
    ],
    ids=["no provider", "unknown key", "wrong type", "no list", "below zero"],
)
def test_ray_up_refuses_a_broken_file(
    path: Path, change: Callable[[Manifest], object], edited: Any
) -> None:
    with pytest.raises((jsonschema.ValidationError, ValueError, KeyError, TypeError)):
        prepared(edited(path, change))


def test_on_aws_the_head_stays_and_trials_run_on_spot_machines_that_come_and_go() -> None:
    config = prepared(CLUSTER / "ray-up" / "ray-cluster.yaml")
    head, spot = config["available_node_types"]["head"], config["available_node_types"]["spot"]
    assert head["resources"]["CPU"] == 0
    assert "InstanceMarketOptions" not in head["node_config"]
    assert spot["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert (spot["min_workers"], spot["max_workers"]) == (0, 8)


@pytest.mark.parametrize("path", RAY_UP, ids=lambda path: path.stem)
def test_every_start_of_ray_asks_for_the_token_and_none_opens_the_dashboard(path: Path) -> None:
    config = prepared(path)
    commands = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    starts = [command for command in commands if "ray start" in command]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token ~/venv/bin/ray start" in command for command in starts)
    assert all("--dashboard-host" not in one or "=127.0.0.1" in one for one in starts)
    mounts = config["file_mounts"]
    assert any(place.endswith("/.ray/auth_token") for place in mounts)
    assert all((ROOT / file).exists() for file in loaded(path)["file_mounts"].values()
               if not file.startswith("~"))  # fmt: skip
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]


# --- KubeRay -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_kuberay_accepts_the_manifest(kind: str) -> None:
    manifest = of_kuberay(kind)
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", kind)
    accept(manifest)


def break_(manifest: Manifest, path: str, value: Any) -> None:
    """Set what a dotted path names; None takes it away."""
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place: Any = spec_of(manifest)
    for step in way:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value


BROKEN: list[tuple[str, Any]] = [
    ("authOptions.mode", "tokens"),
    ("authOptions.secret", "metatune-ray-token"),
    ("autoscalerOptions.upscalingMode", "Fast"),
    ("autoscalerOptions.idleTimeoutSeconds", "300s"),
    ("headGroupSpec", None),
    ("headGroupSpec.rayStartParams.num-cpus", 0),  # KubeRay wants a string
    ("headGroupSpec.template.spec.containers", None),
    ("workerGroupSpecs.0.groupName", None),
    ("workerGroupSpecs.0.replicas", 9),
    ("workerGroupSpecs.0.maxReplicas", "8"),
    ("workerGroupSpecs.0.template.spec.containers.0.livenessprobe", {}),
    ("workerGroupSpecs.0.template.spec.containers.0.livenessProbe.httpGet.port", None),
    ("workerGroupSpecs.0.template.spec.containers.0.volumeMounts.0.name", "share"),
    ("workerGroupSpecs.0.template.spec.containers.0.env.0.value", 0),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("path", "value"), BROKEN, ids=[path for path, _ in BROKEN])
def test_a_broken_manifest_is_refused(kind: str, path: str, value: Any) -> None:
    manifest = of_kuberay(kind)
    break_(manifest, path, value)
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        accept(manifest)


def test_a_job_without_its_cluster_or_with_an_unknown_field_is_refused() -> None:
    manifest = of_kuberay("RayJob")
    for change in ({"rayClusterSpec": None}, {"ttlSeconds": 600}, {"backoffLimit": "3"}):
        broken = deepcopy(manifest)
        broken["spec"].update(change)
        with pytest.raises(jsonschema.ValidationError):
            accept(broken)


def test_the_job_runs_on_the_same_cluster_as_the_one_that_stays() -> None:
    assert spec_of(of_kuberay("RayJob")) == spec_of(of_kuberay("RayCluster"))


def test_on_kubernetes_the_head_runs_no_trial_and_the_token_is_a_secrets() -> None:
    spec = spec_of(of_kuberay("RayCluster"))
    assert spec["authOptions"] == {"mode": "token", "secretName": "metatune-ray-token"}
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    text = "".join(path.read_text() for path in (CLUSTER / "kuberay").glob("*.yaml"))
    assert "auth_token:" not in text  # the secret itself is in no file


def test_every_pod_has_its_resources_probes_and_the_shared_folder() -> None:
    spec = spec_of(of_kuberay("RayCluster"))
    claim = loaded(CLUSTER / "kuberay" / "storage.yaml")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    images = set()
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        [volume] = pod["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        for container in pod["containers"]:
            images.add(container["image"])
            resources = container["resources"]
            assert set(resources["requests"]) == set(resources["limits"]) == {"cpu", "memory"}
            for probe in ("readinessProbe", "livenessProbe"):
                assert container[probe]["httpGet"] == {"path": "/api/healthz", "port": 52365}
            assert container["volumeMounts"] == [{"name": "shared", "mountPath": "/shared"}]
    assert len(images) == 1


def test_the_versions_of_ray_agree_in_manifest_and_constraints() -> None:
    assert spec_of(of_kuberay("RayCluster"))["rayVersion"] == pinned("ray")


# --- the container -------------------------------------------------------------------------------


def tool(name: str) -> str:
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")
    assert found, f"{name} is one of the development dependencies"
    return found


def told_by(*command: object, text: str | None = None) -> str:
    done = subprocess.run([*map(str, command)], input=text, capture_output=True, text=True)
    return done.stdout + done.stderr if done.returncode else ""


def test_the_containerfile_passes_its_linter_and_a_broken_one_does_not() -> None:
    path = CLUSTER / "kuberay" / "Containerfile"
    assert not told_by(tool("hadolint"), path)
    text = path.read_text()
    for broken in (text.replace("WORKDIR /opt", "WORKDIR opt"), text.replace("RUN pip", "RUM pip")):
        assert told_by(tool("hadolint"), "-", text=broken)


def test_the_container_has_what_it_copies_and_runs_as_nobody_special() -> None:
    text = (CLUSTER / "kuberay" / "Containerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE)
              for name in line.split()]  # fmt: skip
    assert copied
    assert all((ROOT / name).exists() for name in copied)
    assert re.search(r"^USER 1000$", text, re.MULTILINE)
    assert "-c constraints.txt" in text


# --- shells --------------------------------------------------------------------------------------

SCRIPTS = [CLUSTER / "local" / "local-multi-node.sh", CLUSTER / "slurm" / "metatune.sbatch"]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_pass_shellcheck(path: Path) -> None:
    assert not told_by(tool("shellcheck"), path)
    broken = path.read_text() + '\nif [ -n $1 ]; then echo "$undefined"\n'
    assert told_by(tool("shellcheck"), "-", text=broken)


@pytest.mark.parametrize("path", RAY_UP, ids=lambda path: path.stem)
def test_the_commands_of_ray_up_pass_shellcheck(path: Path) -> None:
    config = loaded(path)
    commands = [
        command for key, value in config.items() if key.endswith("commands") for command in value
    ]
    script = "#!/usr/bin/env bash\nRAY_HEAD_IP=host\n" + "".join(f"({one})\n" for one in commands)
    assert len(commands) >= 5
    # SC2016: what is to be expanded later stands in single quotes; SC2088: `~` as Ray wants it.
    assert not told_by(tool("shellcheck"), "-e", "SC2016,SC2086,SC2088", "-", text=script)


def test_the_entrypoint_of_the_job_is_one_shell_command_that_resumes_what_is_there() -> None:
    entrypoint = of_kuberay("RayJob")["spec"]["entrypoint"]
    assert not told_by(tool("shellcheck"), "-", text=f"#!/usr/bin/env bash\n{entrypoint}\n")
    assert re.search(r"run\.json \]; then metatune resume /shared/runs/first", entrypoint)
    assert entrypoint.count("--address auto --workers 16 --wait 15") == 2
