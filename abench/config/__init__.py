"""The description of a run: YAML files and command-line options, merged and checked into frozen specs."""

from abench.config.cache_spec import ActivationCacheSpec
from abench.config.checking import check
from abench.config.members import Member, split_member
from abench.config.model import ModelConfig
from abench.config.package_spec import PackageSpec
from abench.config.reading import (
    Described,
    describe_run,
    has_small_runs,
    is_configuration,
    is_model_file,
    load_run,
    model_config,
    model_named,
    model_names,
    run_description,
    run_groups,
)
from abench.config.recorded_run import PROVENANCE, PROVENANCE_FORMAT, provenance_file, read_provenance
from abench.config.report_spec import ReportSpec
from abench.config.run import RunConfig
from abench.config.shipped import config_names
from abench.config.specs import DataSpec, EvaluationSpec, TrainingSpec

__all__ = [
    "PROVENANCE",
    "PROVENANCE_FORMAT",
    "ActivationCacheSpec",
    "DataSpec",
    "Described",
    "EvaluationSpec",
    "Member",
    "ModelConfig",
    "PackageSpec",
    "ReportSpec",
    "RunConfig",
    "TrainingSpec",
    "check",
    "config_names",
    "describe_run",
    "has_small_runs",
    "is_configuration",
    "is_model_file",
    "load_run",
    "model_config",
    "model_named",
    "model_names",
    "provenance_file",
    "read_provenance",
    "run_description",
    "run_groups",
    "split_member",
]
