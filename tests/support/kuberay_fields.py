"""JSON schemas for the fields that rayjob.yaml uses.

KubeRay's RayJob (v1, of KubeRay 1.6) and Kubernetes' own objects, with types. An unknown key is an error
here; Kubernetes itself would silently drop it.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
QUANTITIES: Schema = {
    "type": "object",
    "propertyNames": {"enum": ["cpu", "memory", "storage", "nvidia.com/gpu"]},
    "additionalProperties": {
        "anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^\d+(\.\d+)?(m|[KMGT]i?)?$"}]
    },
}


def one_of(*values: str) -> Schema:
    return {"enum": list(values)}


def many(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def fields(required: str = "", /, **known: Schema) -> Schema:
    """An object with these keys only. ``required``: names of required keys, separated by spaces."""
    return {
        "type": "object",
        "properties": known,
        "required": required.split(),
        "additionalProperties": False,
    }


METADATA = fields("name", name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS)
RESOURCES = fields(requests=QUANTITIES, limits=QUANTITIES)
CONTAINER_SECURITY = fields(
    allowPrivilegeEscalation=FLAG,
    capabilities=fields(add=many(TEXT), drop=many(TEXT)),
    privileged=FLAG,
    readOnlyRootFilesystem=FLAG,
    runAsNonRoot=FLAG,
    runAsUser=WHOLE,
)
POD_SECURITY = fields(
    runAsNonRoot=FLAG,
    runAsUser=WHOLE,
    runAsGroup=WHOLE,
    fsGroup=WHOLE,
    seccompProfile=fields("type", type=one_of("RuntimeDefault", "Unconfined", "Localhost")),
)
HOOK = fields("exec", exec=fields("command", command=many(TEXT)))
CONTAINER = fields(
    "name image",
    name=TEXT,
    image=TEXT,
    imagePullPolicy=one_of("Always", "IfNotPresent", "Never"),
    env=many(fields("name", name=TEXT, value=TEXT)),
    ports=many(fields("containerPort", name=TEXT, containerPort=WHOLE, protocol=one_of("TCP", "UDP"))),
    resources=RESOURCES,
    securityContext=CONTAINER_SECURITY,
    lifecycle=fields(postStart=HOOK, preStop=HOOK),
    volumeMounts=many(fields("name mountPath", name=TEXT, mountPath=TEXT, subPath=TEXT, readOnly=FLAG)),
)
TOLERATION = fields(
    key=TEXT,
    operator=one_of("Exists", "Equal"),
    value=TEXT,
    effect=one_of("NoSchedule", "PreferNoSchedule", "NoExecute"),
    tolerationSeconds=WHOLE,
)
VOLUME = fields(
    "name",
    name=TEXT,
    persistentVolumeClaim=fields("claimName", claimName=TEXT, readOnly=FLAG),
    emptyDir=fields(medium=TEXT, sizeLimit=TEXT),
)
POD_TEMPLATE = fields(
    "spec",
    metadata=fields(labels=TEXTS, annotations=TEXTS),
    spec=fields(
        "containers",
        serviceAccountName=TEXT,
        automountServiceAccountToken=FLAG,
        nodeSelector=TEXTS,
        tolerations=many(TOLERATION),
        terminationGracePeriodSeconds=WHOLE,
        restartPolicy=one_of("Always", "OnFailure", "Never"),
        securityContext=POD_SECURITY,
        containers=many(CONTAINER),
        volumes=many(VOLUME),
    ),
)
AUTOSCALER = fields(
    version=one_of("v1", "v2"),
    idleTimeoutSeconds=WHOLE,
    upscalingMode=one_of("Default", "Aggressive", "Conservative"),
    image=TEXT,
    imagePullPolicy=TEXT,
    resources=RESOURCES,
    securityContext=CONTAINER_SECURITY,
)
HEAD_GROUP = fields(
    "template",
    serviceType=one_of("ClusterIP", "NodePort", "LoadBalancer"),
    enableIngress=FLAG,
    labels=TEXTS,
    rayStartParams=TEXTS,
    template=POD_TEMPLATE,
)
WORKER_GROUP = fields(
    "groupName template",
    groupName=TEXT,
    replicas=WHOLE,
    minReplicas=WHOLE,
    maxReplicas=WHOLE,
    numOfHosts=WHOLE,
    idleTimeoutSeconds=WHOLE,
    labels=TEXTS,  # since 1.5; Ray's autoscaler ignores those in rayStartParams
    rayStartParams=TEXTS,
    template=POD_TEMPLATE,
)
RAY_CLUSTER = fields(
    "headGroupSpec",
    rayVersion=TEXT,
    authOptions=fields(mode=one_of("disabled", "token"), secretName=TEXT),
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=AUTOSCALER,
    headGroupSpec=HEAD_GROUP,
    workerGroupSpecs=many(WORKER_GROUP),
)
RAY_JOB = fields(
    submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    entrypoint=TEXT,
    runtimeEnvYAML=TEXT,
    backoffLimit=WHOLE,
    activeDeadlineSeconds=WHOLE,
    preRunningDeadlineSeconds=WHOLE,
    shutdownAfterJobFinishes=FLAG,
    ttlSecondsAfterFinished=WHOLE,
    submitterConfig=fields(backoffLimit=WHOLE),
    suspend=FLAG,
    rayClusterSpec=RAY_CLUSTER,
)
CLAIM = fields(
    "accessModes resources",
    accessModes=many(one_of("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")),
    storageClassName=TEXT,
    resources=RESOURCES,
)


def _object(version: str, **more: Schema) -> Schema:
    return fields(
        "apiVersion kind metadata " + " ".join(more),
        apiVersion=one_of(version),
        kind=TEXT,
        metadata=METADATA,
        **more,
    )


OBJECTS = {
    "ServiceAccount": _object("v1"),
    "PersistentVolumeClaim": _object("v1", spec=CLAIM),
    "RayJob": _object("ray.io/v1", spec=RAY_JOB),
}
"""Schemas by kind."""
