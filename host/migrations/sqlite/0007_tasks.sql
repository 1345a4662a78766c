-- What happens by the clock. `next_at` is the next tick; none while the task is paused.
create table tasks (
    seq integer primary key autoincrement,
    id text not null unique,
    tenant text not null references tenants (id),
    name text not null,
    kind text not null,
    value text not null,
    meta text not null,
    "interval" text not null,
    time_zone text not null,
    catch_up text not null,
    overlap integer not null,
    paused integer not null,
    next_at integer,
    last_at integer,
    created integer not null,
    unique (tenant, name)
) strict;

create index tasks_due on tasks (next_at) where next_at is not null;

-- The history of tasks. `node` is the process that a run is in, which has to renew `lease` while it lives.
create table task_runs (
    seq integer primary key autoincrement,
    id text not null unique,
    tenant text not null,
    task text not null references tasks (id) on delete cascade,
    due integer not null,
    manual integer not null,
    started integer not null,
    completed integer,
    outcome text not null,
    detail text not null,
    run text,
    trace_id text not null,
    node text not null,
    lease integer not null
) strict;

create index task_runs_of_task on task_runs (task, seq);
create index task_runs_running on task_runs (task) where outcome = 'running';
create index task_runs_by_age on task_runs (started);

-- Calls of functions that come once. `user` is whoever scheduled it, and `payload` JSON.
create table jobs (
    seq integer primary key autoincrement,
    id text not null unique,
    tenant text not null references tenants (id),
    function text not null,
    payload text not null,
    user text not null,
    due integer not null,
    state text not null,
    attempts integer not null,
    error text,
    run text,
    created integer not null,
    ended integer,
    node text,
    lease integer
) strict;

create index jobs_due on jobs (due, tenant) where state = 'waiting';
create index jobs_running on jobs (node) where state = 'running';
create index jobs_of_tenant on jobs (tenant, seq);
create index jobs_ended on jobs (ended) where ended is not null;
