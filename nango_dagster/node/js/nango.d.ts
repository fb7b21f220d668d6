// The types of the module `nango` for editors. In tsconfig.json of a project without Nango's package:
//   "compilerOptions": { "paths": { "nango": ["<site-packages>/nango_dagster/node/js/nango.d.ts"] } }

type Text = Record<string, any>;
type Rows<Models> = Models[keyof Models] extends { _output: infer Row } ? Row : any;

export interface PaginationOptions {
    type: 'cursor' | 'link' | 'offset';
    response_path?: string;
    limit?: number | string;
    limit_name_in_request?: string;
    in_body?: boolean;
    cursor_path_in_response?: string;
    cursor_name_in_request?: string;
    link_rel_in_response_header?: string;
    link_path_in_response_body?: string;
    offset_name_in_request?: string;
    offset_start_value?: number;
    offset_calculation_method?: 'per-page' | 'by-response-size';
    on_page?: (page: { nextPageParam?: string | number; response: Response }) => Promise<void> | void;
}

export interface ProxyConfiguration {
    endpoint: string;
    method?: string;
    params?: string | Record<string, string | number | boolean | string[] | number[] | undefined>;
    data?: unknown;
    headers?: Record<string, string>;
    baseUrlOverride?: string;
    retries?: number;
    retryOn?: number[] | null;
    retryHeader?: { at?: string | string[]; after?: string | string[] };
    decompress?: boolean;
    responseType?: 'arraybuffer' | 'json' | 'text';
    paginate?: Partial<PaginationOptions>;
}

export interface Response<T = any> {
    data: T;
    status: number;
    headers: Record<string, string>;
    config: Text;
}

export type Checkpoint = Record<string, string | number | boolean>;

export interface NangoSync<Models = any, Metadata = any, Progress = Checkpoint> {
    readonly variant: string;
    readonly connectionId: string;
    readonly providerConfigKey: string;
    readonly lastSyncDate?: Date;
    readonly ActionError: new (payload?: Text) => Error & { payload?: Text };

    get<T = any>(config: ProxyConfiguration): Promise<Response<T>>;
    post<T = any>(config: ProxyConfiguration): Promise<Response<T>>;
    put<T = any>(config: ProxyConfiguration): Promise<Response<T>>;
    patch<T = any>(config: ProxyConfiguration): Promise<Response<T>>;
    delete<T = any>(config: ProxyConfiguration): Promise<Response<T>>;
    proxy<T = any>(config: ProxyConfiguration): Promise<Response<T>>;
    paginate<T = any>(config: ProxyConfiguration): AsyncGenerator<T[], void, undefined>;
    uncontrolledFetch(request: { url: URL; method?: string; headers?: Record<string, string>; body?: string | null }): Promise<any>;

    batchSave(records: Rows<Models>[], model: keyof Models & string): Promise<boolean>;
    batchUpdate(records: (Partial<Rows<Models>> & { id: string | number })[], model: keyof Models & string): Promise<boolean>;
    batchDelete(records: { id: string | number }[], model: keyof Models & string): Promise<boolean>;
    trackDeletesStart(model: keyof Models & string): Promise<void>;
    trackDeletesEnd(model: keyof Models & string): Promise<{ deletedKeys: string[] }>;
    deleteRecordsFromPreviousExecutions(model: keyof Models & string): Promise<{ deletedKeys: string[] }>;
    getRecordsByIds<K = string | number, T = any>(ids: K[], model: keyof Models & string): Promise<Map<K, T>>;
    listRecords<T = any>(model: keyof Models & string, options?: { cursor?: string }): AsyncGenerator<T, void, undefined>;
    setMergingStrategy(merging: { strategy: 'override' | 'ignore_if_modified_after' }, model: keyof Models & string): Promise<void>;

    getCheckpoint(): Promise<Progress | null>;
    saveCheckpoint(checkpoint: Progress): Promise<void>;
    clearCheckpoint(): Promise<void>;
    getMetadata<T = Metadata>(): Promise<T>;
    setMetadata(metadata: Text): Promise<void>;
    updateMetadata(metadata: Text): Promise<void>;
    getConnection(providerConfigKey?: string, connectionId?: string, options?: { forceRefresh?: boolean; refreshToken?: boolean }): Promise<any>;
    getToken(): Promise<any>;
    getIntegration(): Promise<any>;
    getEnvironmentVariables(): Promise<{ name: string; value: string }[] | null>;
    tryAcquireLock(lock: { key: string; ttlMs: number }): Promise<boolean>;
    releaseLock(lock: { key: string }): Promise<boolean>;
    releaseAllLocks(): Promise<void>;
    log(message: any, ...more: any[]): Promise<void>;
    zodValidateInput<T = any>(options: { zodSchema: any; input: unknown }): Promise<{ data: T }>;
}

export interface Sync<Models extends Text, Metadata, Progress> {
    description: string;
    version?: string;
    frequency: string;
    models: Models;
    autoStart?: boolean;
    trackDeletes?: boolean;
    syncType?: 'full' | 'incremental';
    endpoints?: { method: string; path: string; group?: string }[];
    scopes?: string[];
    metadata?: Metadata;
    checkpoint?: Progress;
    exec: (nango: NangoSync<Models>) => Promise<void> | void;
}

export function createSync<Models extends Text, Metadata = any, Progress = any>(
    sync: Sync<Models, Metadata, Progress>
): Sync<Models, Metadata, Progress> & { type: 'sync' };
export function createAction(action: Text): Text;
export function createOnEvent(event: Text): Text;
