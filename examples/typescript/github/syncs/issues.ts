import { createSync } from 'nango';
import { z } from 'zod';

const Issue = z.object({
    id: z.string(),
    number: z.number(),
    title: z.string(),
    state: z.enum(['open', 'closed']),
    author: z.string().nullable(),
    updated_at: z.string()
});

interface GithubIssue {
    id: number;
    number: number;
    title: string;
    state: 'open' | 'closed';
    user: { login: string } | null;
    updated_at: string;
    pull_request?: object;
}

const Metadata = z.object({ repository: z.string() });
const Checkpoint = z.object({ updated_after: z.string() });

export default createSync({
    description: 'The issues of a repository, oldest change first, from where the last execution ended',
    version: '1.0.0',
    frequency: 'every hour',
    autoStart: true,
    models: { Issue },
    metadata: Metadata,
    checkpoint: Checkpoint,
    exec: async (nango) => {
        const { repository } = await nango.getMetadata<z.infer<typeof Metadata>>();
        const checkpoint = await nango.getCheckpoint();
        const pages = nango.paginate<GithubIssue>({
            endpoint: `/repos/${repository}/issues`,
            params: {
                state: 'all',
                sort: 'updated',
                direction: 'asc',
                ...(checkpoint && { since: String(checkpoint['updated_after']) })
            },
            paginate: { type: 'link', link_rel_in_response_header: 'next', limit_name_in_request: 'per_page', limit: 100 },
            retries: 5
        });
        for await (const page of pages) {
            // The API lists pull requests as issues, too.
            const issues = page.filter((issue) => issue.pull_request === undefined);
            await nango.batchSave(
                issues.map((issue) => ({
                    id: String(issue.id),
                    number: issue.number,
                    title: issue.title,
                    state: issue.state,
                    author: issue.user?.login ?? null,
                    updated_at: issue.updated_at
                })),
                'Issue'
            );
            const last = page.at(-1);
            if (last) {
                await nango.saveCheckpoint({ updated_after: last.updated_at });
            }
        }
    }
});
