"""The example of a TypeScript sync: its recorded answers, its types, and an editor's view of ours."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.commands import Cli
from tests.conftest import ROOT
from tests.npm import copied

WRONG = """
import { createSync } from 'nango';
import { z } from 'zod';

export default createSync({
    description: 'Wrong in four places', frequency: 'every hour', models: { Item: z.object({ id: z.string() }) },
    exec: async (nango) => {
        // @ts-expect-error a record without its id
        await nango.batchSave([{ name: 'x' }], 'Item');
        // @ts-expect-error a model that is not declared
        await nango.batchSave([{ id: '1' }], 'Thing');
        // @ts-expect-error a kind of paging that does not exist
        nango.paginate({ endpoint: '/items', paginate: { type: 'pages' } });
        // @ts-expect-error a member that does not exist
        await nango.saveAll([]);
    },
});
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with its packages, in a folder of its own."""
    return copied(ROOT / "examples" / "typescript", ["npm", "install", "--no-package-lock"], tmp_path_factory)


def test_the_example_replays_its_recorded_answers(project: Path, tmp_path: Path) -> None:
    cli = Cli({"NANGO_HOME": str(tmp_path), "NANGO_SCRIPTS": str(project)})
    assert "github-issues.test.json (issues)" in cli.good("test").stdout


def test_the_types_of_the_package_accept_the_example_and_find_mistakes(project: Path) -> None:
    (project / "wrong.ts").write_text(WRONG)
    types = str(ROOT / "nango_dagster" / "node" / "js" / "nango.d.ts")
    config = {
        "extends": "./tsconfig.json",
        "compilerOptions": {"paths": {"nango": [types]}},
        "include": ["index.ts", "wrong.ts"],
    }
    (project / "tsconfig.checked.json").write_text(json.dumps(config))
    tsc = project / "node_modules" / ".bin" / "tsc"
    checked = subprocess.run(
        [tsc, "-p", "tsconfig.checked.json"], cwd=project, capture_output=True, text=True, timeout=120
    )
    assert checked.returncode == 0, checked.stdout
