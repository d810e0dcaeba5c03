"""The worker processes, as `TF_CONFIG` or Slurm lists them."""

import json
import os
import re
from collections.abc import Mapping

from lightkeras.utils import internals
from lightkeras.utils.checks import require

_ADDRESS = re.compile(r"\S+:\d+")


_SLURM_PORTS = range(20000, 30000)  # below those that Linux gives to clients


def _is_index(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _cluster() -> tuple[dict[str, list[str]], tuple[str, int]]:
    """The cluster, and this process's (type, index) in it; Slurm's is put into `TF_CONFIG`."""
    if "TF_CONFIG" not in os.environ and "SLURM_PROCID" in os.environ:
        os.environ["TF_CONFIG"] = json.dumps(slurm_config(os.environ))
    if "TF_CONFIG" not in os.environ:
        raise ValueError(
            'Expected TF_CONFIG or Slurm\'s environment for strategy="multi_worker" (`lightkeras launch --workers 2 '
            "...` sets it for workers on this machine). Received: neither is set"
        )
    config = _json(os.environ["TF_CONFIG"])
    cluster, task = config.get("cluster", {}), config.get("task", {})
    addresses = [address for kind in cluster.values() for address in kind]
    index = task.get("index")
    found = task.get("type") in ("chief", "worker") and _is_index(index) and index < len(cluster.get(task["type"], ()))
    require(found, "TF_CONFIG", 'a cluster and this process\'s task of it, a "worker" or "chief" by index', config)
    require(len(set(addresses)) == len(addresses), "TF_CONFIG", "a cluster with no address twice", config)
    require(all(_ADDRESS.fullmatch(a) for a in addresses), "TF_CONFIG", 'a cluster of "host:port" addresses', config)
    return cluster, (task["type"], index)


def _json(text: str) -> dict:
    try:
        config = json.loads(text)
    except ValueError as error:
        raise ValueError(f"Expected `TF_CONFIG` to be JSON ({error}). Received: TF_CONFIG={text!r}") from error
    parts = [config, *(config.get(name, {}) for name in ("cluster", "task"))] if isinstance(config, dict) else [None]
    require(all(isinstance(part, dict) for part in parts), "TF_CONFIG", "a dict of dicts", text)
    return config


def slurm_config(environment: Mapping[str, str]) -> dict:
    """`TF_CONFIG` of a process that `srun` started, with the node's hosts in Slurm's order.

    TensorFlow's `SlurmClusterResolver` needs `nvidia-smi`, and sorts the hosts by name (n10 before n9), so that
    addresses and ranks part ways. The ports come from the job's number: jobs on one node do not meet.

    Args:
        environment: SLURM_PROCID, SLURM_STEP_NODELIST, SLURM_STEP_TASKS_PER_NODE and SLURM_JOB_ID are read.

    Raises:
        ValueError: One is missing: the process was not started by `srun`.
    """
    names = ("SLURM_PROCID", "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE", "SLURM_JOB_ID")
    missing = [name for name in names if name not in environment]
    require(not missing, "SLURM_...", "those of a process that `srun` started", f"no {', '.join(missing)}")
    rank, nodes, tasks, job = (environment[name] for name in names)
    counts = internals.expand_slurm_hosts(nodes, tasks)
    port = _SLURM_PORTS.start + int(job) % len(_SLURM_PORTS)
    hosts = [f"{host}:{port + local}" for host, count in counts for local in range(count)]
    return {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": int(rank)}}
