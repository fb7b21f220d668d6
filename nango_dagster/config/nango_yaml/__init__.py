"""`nango.yaml`, the file that Nango's command line deployed syncs from, in its versions 1 and 2.

`read` gives the syncs of a file as fields of sync configs, with the path of the script that belongs to each. The
grammar is that of Nango; where a file deviates from it in a way that is clear, a warning says how it was understood.
"""

from nango_dagster.config.nango_yaml.declared_sync import DeclaredSync, NangoYaml
from nango_dagster.config.nango_yaml.reader import FILE_NAMES, read, read_text

__all__ = ["FILE_NAMES", "DeclaredSync", "NangoYaml", "read", "read_text"]
