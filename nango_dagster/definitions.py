"""What `workspace.yaml` names: the definitions of every sync in the configured folder."""

from .defs import build_definitions

defs = build_definitions()
