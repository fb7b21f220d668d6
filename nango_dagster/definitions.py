"""What `workspace.yaml` names: the definitions of every sync in the configured folder, and of the posted ones."""

from dagster import Definitions, in_process_executor

from .defs import build_definitions

# One process for all that a click starts: a second one per asset would cost as much again as the run.
defs = Definitions.merge(build_definitions(), Definitions(executor=in_process_executor))
