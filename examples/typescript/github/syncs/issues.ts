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
        let since = String(checkpoint?.['updated_after'] ?? '1970-01-01T00:00:00Z');
        let page = 1;
        while (true) {
            const { data, headers } = await nango.get<GithubIssue[]>({
                endpoint: `/repos/${repository}/issues`,
                params: { state: 'all', sort: 'updated', direction: 'asc', per_page: '100', since, page: String(page) },
                retries: 5
            });
            // The API lists pull requests as issues, too.
            const issues = data.filter((issue) => issue.pull_request === undefined);
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
            const latest = data.at(-1)?.updated_at;
            if (latest === undefined) {
                return;
            }
            await nango.saveCheckpoint({ updated_after: latest });
            if (!String(headers['link'] ?? '').includes('rel="next"')) {
                return;
            }
            // An issue that changes now moves to the end of the list, and the issues after it move to earlier pages.
            // Therefore each request begins at the last time that was read, unless all issues of a page have the same time.
            [since, page] = latest > since ? [latest, 1] : [since, page + 1];
        }
    }
});
