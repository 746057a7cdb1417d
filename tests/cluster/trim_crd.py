"""Makes ``kuberay-1.7.0.json``: of KubeRay's CRDs, the schema of the fields that we use.

    python tests/cluster/trim_crd.py KUBERAY_CHECKOUT

The whole CRDs have megabytes, most of it Kubernetes' pods. The manifests are checked against the
whole ones here, before anything is left out; the tests check them against what is kept. A field
that is not kept is refused by the tests, whether KubeRay knows it or not: run this again then.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import yaml

HERE = Path(__file__).parent
MANIFESTS = HERE.parents[1] / "cluster" / "kuberay"
CRDS = Path("ray-operator/config/crd/bases")
KINDS = {"RayCluster": ("raycluster.yaml", "ray.io_rayclusters.yaml"),
         "RayJob": ("rayjob.yaml", "ray.io_rayjobs.yaml")}  # fmt: skip
KEPT = ("type", "enum", "required", "minimum", "maximum", "pattern", "format", "maxLength")


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A CRD's schema as JSON Schema: unknown fields are refused, as by ``kubectl apply``."""
    made = {key: schema[key] for key in KEPT if key in schema and key != "format"}
    if schema.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    if schema.get("nullable"):
        made["type"] = [made["type"], "null"]
    if "properties" in schema:
        made["properties"] = {name: closed(one) for name, one in schema["properties"].items()}
        made["additionalProperties"] = False
    if isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = closed(schema["additionalProperties"])
    if "items" in schema:
        made["items"] = closed(schema["items"])
    return made


def trimmed(schema: dict[str, Any], values: list[Any]) -> dict[str, Any]:
    """The schema without the properties that none of these values has."""
    made = dict(schema)
    if "properties" in schema:
        used = {name for value in values for name in value}
        made["properties"] = {
            name: trimmed(one, [value[name] for value in values if name in value])
            for name, one in schema["properties"].items()
            if name in used or name in schema.get("required", ())
        }
    if "items" in schema:
        made["items"] = trimmed(schema["items"], [one for value in values for one in value])
    return made


def main(checkout: Path) -> None:
    kept = {}
    for kind, (file, crd) in KINDS.items():
        manifest = yaml.safe_load((MANIFESTS / file).read_text())
        versions = yaml.safe_load((checkout / CRDS / crd).read_text())["spec"]["versions"]
        [served] = [one for one in versions if one["name"] == "v1"]
        whole = closed(served["schema"]["openAPIV3Schema"])
        whole["properties"]["metadata"] = {"type": "object"}
        jsonschema.validate(manifest, whole)
        kept[kind] = trimmed(whole, [manifest])
    spec = kept["RayCluster"]["properties"]["spec"]
    of_job = kept["RayJob"]["properties"]["spec"]["properties"]
    assert of_job["rayClusterSpec"] == spec
    of_job["rayClusterSpec"] = {"$ref": "#/RayCluster/properties/spec"}
    about = "of github.com/ray-project/kuberay v1.7.0 (Apache-2.0), made by trim_crd.py"
    (HERE / "kuberay-1.7.0.json").write_text(json.dumps({"$comment": about, **kept}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
