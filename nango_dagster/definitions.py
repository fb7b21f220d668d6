"""The module that `workspace.yaml` names: definitions of all syncs in the config folder and of all posted syncs."""

from dagster import Definitions, in_process_executor

from .defs import build_definitions

# One process for a manual run: the default executor would start a second process for each asset.
defs = Definitions.merge(build_definitions(), Definitions(executor=in_process_executor))
