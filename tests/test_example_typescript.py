"""The example of a TypeScript sync: its recorded answers, its types, and an editor's view of ours."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from nango_dagster.node import manifest
from nango_dagster.node.program import node
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

SCHEMAS = """
import * as all from 'zod';
import { z } from 'zod';

const Status = z.enum(['open', 'closed']);
const Person = z.object({ id: z.string(), name: z.string().optional(), status: Status });
const Named = z.string().describe('The name');
const Tree = z.object({ id: z.string(), get children() { return z.array(Tree); } });
const List = z.object({ value: z.number(), next: z.lazy(() => List).nullable() });
const parsed = z.object({ limit: z.number().default(10) }).parse({});
if (parsed.limit !== 10 || Status.enum.open !== 'open' || Status.options.length !== 2) throw new Error('not a schema');
if (!(Person instanceof z.ZodObject) || !('name' in Person.shape)) throw new Error('not an object');

export const models = {
    Person, Tree, List, Status,
    Texts: z.object({ a: z.string().min(1).max(5), b: z.string().regex(/^x/), c: z.email(),
        d: z.iso.datetime(), e: z.url() }),
    Numbers: z.object({ a: z.int(), b: z.number().gte(0).lt(7), c: z.coerce.number(),
        d: z.literal(1), e: z.literal(['1', 'x']) }),
    Told: z.object({ a: Named, b: z.string().describe('Another name'), c: z.string(), d: Named.optional() }),
    Some: Person.pick({ id: true }),
    Less: Person.omit({ id: true }), More: Person.extend({ age: z.number().nullish() }),
    Loose: Person.partial().passthrough(), Strict: z.strictObject({ id: z.string() }),
    Rest: z.object({}).catchall(z.boolean()),
    Spread: z.object({ ...Person.shape, at: z.date() }), Inner: z.object({ name: Person.shape.name.unwrap() }),
    Either: z.union([z.string(), z.null(), z.array(z.unknown())]),
    Kind: z.discriminatedUnion('kind', [
        z.object({ kind: z.literal('a') }), z.object({ kind: z.literal('b'), big: z.bigint() })]),
    Both: Person.and(z.object({ more: z.any() })), Pair: z.tuple([z.string(), z.number()]),
    Map: z.record(z.string(), Person),
    Changed: z.object({ a: z.string().transform(Number), b: z.preprocess(String, z.string()),
        c: z.string().refine(Boolean) }),
    Default: z.object({ a: z.string().default('x'), b: z.boolean().readonly(), c: z.string().catch('y') }),
    Whole: all.object({ a: all.z.string(), b: all.string().meta({ id: 'Text', title: 'A text' }),
        c: z.string().brand() }),
    Big: z.object({ a: z.literal(1n), b: z.literal(1), c: z.literal('1'),
        d: z.literal(null), e: z.literal(undefined) }),
};
"""
SYNC = """
import { createSync } from 'nango';
import { models } from '../../schemas.js';

export default createSync({ description: 'All schemas', frequency: 'every hour', models, exec: async () => {} });
"""
JSON_SCHEMAS = """
import { z } from 'zod';
import { models } from './schemas.mjs';

const whole = ([name, model]) => {
    try {
        const { $schema, ...schema } = z.toJSONSchema(model, { io: 'input', unrepresentable: 'any' });
        return [name, schema];
    } catch {
        return [name, { type: 'object' }];
    }
};
console.log(JSON.stringify(Object.fromEntries(Object.entries(models).map(whole))));
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


def test_a_model_is_described_as_zod_itself_describes_it(project: Path, tmp_path: Path) -> None:
    (project / "crm" / "syncs").mkdir(parents=True)
    (project / "schemas.ts").write_text(SCHEMAS)
    (project / "schemas.mjs").write_text(SCHEMAS)
    (project / "crm" / "syncs" / "all.ts").write_text(SYNC)
    (project / "index.ts").write_text("import './crm/syncs/all.js';\n")
    (project / "described.mjs").write_text(JSON_SCHEMAS)
    expected = json.loads(subprocess.check_output([node(), "described.mjs"], cwd=project, text=True))
    (entry,) = manifest.refresh(tmp_path, project).manifest.entries
    assert entry.error is None
    assert entry.description["models"] == expected
    assert len([schema for schema in expected.values() if schema != {"type": "object"}]) > 20


@pytest.mark.parametrize(
    ("mistake", "line"),
    [("const Wrong = z.string().optinal();", 3), ("const Wrong = z.object({ id: z.enum(undefined) });", 3)],
)
def test_a_mistake_in_a_schema_is_an_error_with_its_line(
    project: Path, tmp_path: Path, mistake: str, line: int
) -> None:
    text = SYNC.replace("import { models } from '../../schemas.js';", f"import {{ z }} from 'zod';\n{mistake}")
    (project / "crm" / "syncs").mkdir(parents=True, exist_ok=True)
    (project / "crm" / "syncs" / "wrong.ts").write_text(text.lstrip().replace(" models,", " models: { Wrong },"))
    (project / "index.ts").write_text("import './crm/syncs/wrong.js';\n")
    (entry,) = manifest.refresh(tmp_path, project).manifest.entries
    assert f"crm/syncs/wrong.ts:{line}" in str(entry.error)
